"""Put trained models into the package, in half precision: the editors that work offline, and what makes their data.

python -m ip2p.training.shapes.ship --editor recipe/train-…/pipeline --few recipe/distil-…/pipeline
python -m ip2p.training.shapes.ship --base runs/base/pipeline --clip runs/clip/clip
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from jsonargparse import auto_cli

from ... import SHAPES_FEW_MODEL, SHAPES_MODEL
from ...ip2p_pipeline.pipeline import InstructPix2PixPipeline
from .models import SHAPES_BASE, SHAPES_CLIP


@dataclass
class ShipSettings:
    """Save trained models of the shapes world for the package to ship."""

    editor: Path | None = None
    """Folder of the editor, an InstructPix2Pix pipeline."""
    few: Path | None = None
    """Folder of the editor that needs few steps, likewise."""
    base: Path | None = None
    """Folder of the text-to-image model, a Stable Diffusion pipeline."""
    clip: Path | None = None
    """Folder of the CLIP, in open_clip's own format."""
    editor_to: Path = SHAPES_MODEL
    """Folder to save the editor to."""
    few_to: Path = SHAPES_FEW_MODEL
    """Folder to save the editor of few steps to."""
    base_to: Path = SHAPES_BASE
    """Folder to save the text-to-image model to."""
    clip_to: Path = SHAPES_CLIP
    """Folder to save the CLIP to."""


def main(settings: ShipSettings) -> None:
    """Save the models that are named, without what the package has beside them."""
    if settings.editor is not None:
        save(InstructPix2PixPipeline, settings.editor, settings.editor_to)
    if settings.few is not None:
        save(InstructPix2PixPipeline, settings.few, settings.few_to)
    if settings.base is not None:
        save(StableDiffusionPipeline, settings.base, settings.base_to)
    if settings.clip is not None:
        settings.clip_to.mkdir(parents=True, exist_ok=True)
        for path in settings.clip.iterdir():  # it is trained to be saved in half precision
            shutil.copyfile(path, settings.clip_to / path.name)


def save(cls: type, source: Path, to: Path) -> None:
    """Save a pipeline's weights in half precision, and no code."""
    pipe = cls.from_pretrained(source, torch_dtype=torch.float16)  # type: ignore[attr-defined]
    pipe.save_pretrained(to)
    for code in to.glob("*.py"):
        code.unlink()
    # diffusers notes where on this machine a part came from.
    for path in (to / "model_index.json", *to.glob("*/config.json")):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        # transformers loads in the precision that is told here, diffusers in float32: the two have to fit together.
        if "dtype" in config:
            config["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main(auto_cli(ShipSettings, as_positional=False))
