"""One edit, as every node makes it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..ip2p_pipeline.denoising import Watch
from ..ip2p_pipeline.errors import NONSENSE, first_line, is_out_of_memory

SEEDS = 2**64
# As in ip2p_pipeline.named_models.SCHEDULERS, which would load diffusers; a test compares the two.
SCHEDULERS = ["model", "ddim", "dpmpp_2m", "euler", "euler_ancestral", "heun", "lcm", "uni_pc"]
SIZES = ["trained", "picture", "custom"]
FITS = ["pad", "resize"]


@dataclass(frozen=True)
class Edit:
    """What a picture is edited with. Names and ranges are the pipeline's; `size` says what `resolution` is for."""

    instruction: str
    seed: int
    steps: int
    guidance_scale: float
    image_guidance_scale: float
    negative: str = ""
    scheduler: str = "model"
    size: str = "trained"
    resolution: int = 512
    fit: str = "pad"
    mask_feather: float = 0.0
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    image_guidance_start: float = 0.0
    image_guidance_stop: float = 1.0
    guidance_rescale: float = 0.0
    relevance_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ValueError("The instruction is empty: write what is to change, like “make it winter”.")
        one_of(self.scheduler, SCHEDULERS, "scheduler")
        one_of(self.size, SIZES, "size")
        one_of(self.fit, FITS, "fit")

    def with_seed(self, number: int) -> "Edit":
        """That of picture `number` of a batch, from 0."""
        return replace(self, seed=(self.seed + number) % SEEDS)


def working_resolution(pipe: Any, edit: Edit) -> int | None:
    """The longest side to work at: what the model was trained at, the picture's own (None), or one's own choice."""
    if edit.size == "picture":
        return None
    side = pipe.unet.config.sample_size
    trained = side * pipe.vae_scale_factor if isinstance(side, int) else None
    return trained if edit.size == "trained" else edit.resolution


def memory_needed(pipe: Any, edit: Edit, picture: Tensor) -> int:
    """How many bytes an edit of the picture [C,H,W] takes besides the weights, as ComfyUI estimates it for decoding.

    Decoding is what takes the most.
    """
    height, width = picture.shape[1:]
    shrunk = (working_resolution(pipe, edit) or max(height, width)) / max(height, width)
    latents = height * width * shrunk**2 / pipe.vae_scale_factor**2
    return int(latents * 64 * 2178 * pipe.vae.dtype.itemsize)


def edited(pipe: Any, edit: Edit, picture: Tensor, mask: Tensor | None = None, watch: Watch | None = None) -> Tensor:
    """The picture [C,H,W] edited, [3,H,W]: what the pipeline gives for it alone with a generator of that seed.

    Raises ValueError where it can't be computed or the model's safety checker blacks it out, and MemoryError.
    """
    try:
        images, unsafe = pipe(
            edit.instruction,
            picture,
            mask_image=mask,
            mask_feather=edit.mask_feather,
            num_inference_steps=edit.steps,
            guidance_scale=edit.guidance_scale,
            image_guidance_scale=edit.image_guidance_scale,
            negative_prompt=edit.negative or None,
            generator=torch.Generator().manual_seed(edit.seed),
            resolution=working_resolution(pipe, edit),
            fit=edit.fit,
            guidance_interval=(edit.guidance_start, edit.guidance_stop),
            image_guidance_interval=(edit.image_guidance_start, edit.image_guidance_stop),
            guidance_rescale=edit.guidance_rescale,
            relevance_mask={"threshold": edit.relevance_threshold} if edit.relevance_threshold else False,
            output_type="pt",
            return_dict=False,
            watch=watch,
        )
    except torch.OutOfMemoryError:
        raise  # ComfyUI frees memory and tells
    except (MemoryError, *NONSENSE) as error:
        if is_out_of_memory(error):
            raise MemoryError("There is too little memory for this picture: work at a lower resolution.") from error
        raise ValueError(f"This edit can't be computed ({first_line(error)}).") from error
    if any(unsafe or []):
        raise ValueError("The model's safety checker took the result for unsafe: try another seed.")
    return images[0]


def one_of(value: Any, options: Iterable[str], name: str) -> None:
    """Raises ValueError for a choice that there isn't: not every ComfyUI checks what workflows choose."""
    if value not in options:
        raise ValueError(f"{name} is one of {', '.join(options)}, not “{value}”.")


def numbers(text: str, name: str) -> list[float]:
    """The numbers of a text like "1.5, 3, 7.5". Raises ValueError in a sentence with the widget's name."""
    parts = [part for part in text.replace(",", " ").replace(";", " ").split() if part]
    try:
        found = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"{name} is a list of numbers like “1, 1.5, 2”, not “{text}”.") from None
    if not found:
        raise ValueError(f"{name} is empty: give numbers like “1, 1.5, 2”.")
    return found


def as_text(model: str, edit: Edit, **more: Any) -> str:
    """The settings of an edit as JSON, to be kept or compared."""
    return json.dumps({"model": model, **asdict(edit), **more}, indent=1, ensure_ascii=False)
