"""Where the package has what makes data of the shapes world; its editors are in `ip2p_pipeline/inside.py`."""

from pathlib import Path

SHAPES_BASE = Path(__file__).parent / "base_model"
"""Folder of the text-to-image model, a Stable Diffusion pipeline."""
SHAPES_CLIP = Path(__file__).parent / "clip_model"
"""Folder of the CLIP, in open_clip's own format."""
