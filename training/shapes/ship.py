"""Put a trained editor into the package, as the model that works offline.

python -m ip2p.training.shapes.ship --editor runs/editor/pipeline
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jsonargparse import auto_cli

from ... import SHAPES_MODEL
from ...ip2p_pipeline.pipeline import InstructPix2PixPipeline


@dataclass
class ShipSettings:
    """Save an editor's U-Net and autoencoder in half precision, for the package to ship."""

    editor: Path
    """Folder of the trained editor, an InstructPix2Pix pipeline."""
    to: Path = SHAPES_MODEL
    """Folder to save to."""


def main(settings: ShipSettings) -> None:
    """Save the editor without the pipeline's code, which the package has beside it."""
    pipe = InstructPix2PixPipeline.from_pretrained(settings.editor, torch_dtype=torch.float16)
    # transformers loads what a file holds, diffusers float32: in half precision the two would not fit together.
    pipe.text_encoder.float()
    pipe.save_pretrained(settings.to)
    for code in settings.to.glob("*.py"):
        code.unlink()
    for path in settings.to.glob("*/config.json"):  # diffusers notes where on this machine a part came from
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main(auto_cli(ShipSettings, as_positional=False))
