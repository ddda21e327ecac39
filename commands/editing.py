"""What edit and grid share: the pipeline's arguments, and the record of what made a result."""

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .. import __version__
from ..ip2p_pipeline.errors import NONSENSE, first_line, is_out_of_memory
from ..ip2p_pipeline.guidance import Guidance
from ..ip2p_pipeline.named_models import Model
from .settings import Editing

GUIDANCE = (
    "guidance_interval",
    "image_guidance_interval",
    "guidance_schedule",
    "guidance_rescale",
    "adaptive_stop",
)
NOT_RECORDED = ("image", "output", "overwrite", "batch_size", "device")


class BlackedOutError(ValueError):
    """The model's safety checker blacked out a result."""


def check_guidance(settings: Editing, guidance_scale: float | None, image_guidance_scale: float | None) -> None:
    """Raise ValueError for settings of guidance without meaning, before a model is fetched for them. None is fine."""
    Guidance(
        1.0 if guidance_scale is None else guidance_scale,
        1.0 if image_guidance_scale is None else image_guidance_scale,
        batch_size=1,
        num_steps=settings.steps or 100,
        **{name: getattr(settings, name) for name in GUIDANCE},
    )


def choose_seed(settings: Editing) -> int:
    """The seed that is asked for, or a random one."""
    return secrets.randbelow(2**32) if settings.seed is None else settings.seed


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One for each result, on the CPU, where a seed gives the same noise for every device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def run(model: Model, settings: Editing, label: str, **arguments: Any) -> list[Image.Image]:
    """Edit with the settings and `arguments` of the pipeline, behind a progress bar called `label`.

    Raises ValueError where it can't be computed, BlackedOutError and MemoryError.
    """
    pipe = model.pipe
    pipe.set_progress_bar_config(desc=label, leave=False, disable=None)  # None: only on a terminal
    try:
        output = pipe(
            settings.instruction,
            num_inference_steps=settings.steps,
            strength=settings.strength,
            negative_prompt=settings.negative_prompt,
            resolution=resolution(model, settings),
            adaptive_projection=settings.adaptive_projection,
            relevance_mask=relevance_mask(settings),
            **{name: getattr(settings, name) for name in GUIDANCE},
            **arguments,
        )
    except (MemoryError, *NONSENSE) as error:
        if is_out_of_memory(error):
            raise MemoryError(
                f"There is too little memory on {pipe.device}: lower --resolution, or for a grid --batch-size."
            ) from error
        raise ValueError(f"This edit can't be computed ({first_line(error)}).") from error
    if any(output.nsfw_content_detected or []):
        raise BlackedOutError(
            "The model's safety checker took a result for unsafe and blacked it out: try another --seed."
        )
    return output.images


def relevance_mask(settings: Editing) -> bool | dict[str, float]:
    """The pipeline's argument: whether there is one, or with which threshold."""
    if settings.relevance_threshold is None:
        return settings.relevance_mask
    return {"threshold": settings.relevance_threshold}


def resolution(model: Model, settings: Editing) -> int | None:
    """The longest side to work at: the one asked for, else the one that the model was trained at."""
    side = model.pipe.unet.config.sample_size
    return settings.resolution or (side * model.pipe.vae_scale_factor if isinstance(side, int) else None)


def record(model: Model, settings: Editing, **actual: Any) -> dict[str, Any]:
    """What made a result, to be stored in it: the settings with what they stood for in this run."""
    given = {
        name: value.name if isinstance(value, Path) else value  # a path would tell about the machine
        for name, value in asdict(settings).items()
        if name not in NOT_RECORDED
    }
    stood_for = {
        "model": model.name,
        "revision": model.revision,
        "steps": settings.steps or model.pipe.recommended("num_inference_steps"),
        "scheduler": type(model.pipe.scheduler).__name__,
        "resolution": resolution(model, settings),
        "dtype": str(model.pipe.dtype).removeprefix("torch."),
    }
    merged = given | stood_for | actual
    return {"version": __version__} | {name: value for name, value in merged.items() if value is not None}
