"""Where the package has the models of the shapes world."""

from pathlib import Path

SHAPES_BASE = Path(__file__).parent / "base_model"
"""Folder of the text-to-image model, a Stable Diffusion pipeline."""
SHAPES_CLIP = Path(__file__).parent / "clip_model"
"""Folder of the CLIP, in open_clip's own format."""
SHAPES_EDITOR = Path(__file__).parents[2] / "ip2p_pipeline" / "shapes_model"
"""Folder of the editor, an InstructPix2Pix pipeline."""
