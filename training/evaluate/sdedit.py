"""SDEdit: the picture, partly lost in noise, is drawn again under a caption (Meng et al. 2021, arXiv 2108.01073)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from PIL import Image

from ..pairs.checkpoint import load_base
from ..shapes.models import SHAPES_BASE
from .methods import Setting, as_arguments, checkpoint_name, of_size, trained_side
from .samples import Sample


@dataclass
class SDEdit:
    """SDEdit with a text-to-image checkpoint, in diffusers' own img2img pipelines.

    model:      SD 1.x, 2.x or SDXL, as `ip2p dataset pairs` takes it
    arguments:  of the pipeline's call, such as guidance_scale
    prompt:     what is drawn: the caption after the edit, as the paper compares it, or the instruction
    resolution: longest side at which it works; None = as the model was trained
    """

    model: str
    arguments: dict[str, Any]
    prompt: Literal["caption", "instruction"] = "caption"
    name: str = "SDEdit"
    dial: str = "strength"
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    resolution: int | None = None
    captions: tuple[str, ...] = ()
    by_chance: bool = True
    one_by_one: bool = False
    loaded: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Need the caption that is drawn."""
        self.captions = ("edited_prompt",) if self.prompt == "caption" else ()

    def identity(self) -> dict[str, Any]:
        """The checkpoint, and how it is called."""
        model = checkpoint_name(self.model, {"shapes": SHAPES_BASE})
        told = {"model": model, "prompt": self.prompt, "dtype": str(self.dtype), "resolution": self.resolution}
        return told | self.arguments

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One call of the pipeline for all, which are of one size."""
        pipe = self.pipe()
        side = self.resolution or trained_side(pipe)
        edited: list[Image.Image] = pipe(
            [sample.edited_prompt if self.prompt == "caption" else sample.edit_prompt for sample in samples],
            image=[fitted(picture, side) for picture in pictures],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **{**self.arguments, **as_arguments(setting)},
        ).images
        return [of_size(made, picture.size) for made, picture in zip(edited, pictures, strict=True)]

    def pipe(self) -> Any:
        """The pipeline, loaded when it is first wanted."""
        if self.loaded is None:
            base = load_base(self.model, device=self.device, dtype=self.dtype)
            cls = StableDiffusionXLImg2ImgPipeline if base.is_xl else StableDiffusionImg2ImgPipeline
            self.loaded = cls.from_pipe(base.pipe, **({} if base.is_xl else {"requires_safety_checker": False}))
            self.loaded.set_progress_bar_config(disable=True)
        return self.loaded

    def free(self) -> None:
        """Let go of the pipeline."""
        self.loaded = None


def fitted(picture: Image.Image, longest: int) -> Image.Image:
    """The picture with its longest side so long, its sides multiples of 8, as the autoencoder takes them."""
    scale = longest / max(picture.size)
    width, height = (max(8, round(side * scale / 8) * 8) for side in picture.size)
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)
