"""Guidance-distilled checkpoints: the U-Net takes both scales as inputs and gives the guided prediction at once.

After Meng et al. 2023 (arXiv 2210.03142, section 3.1), for two scales as in MoViE (Karjauv et al. 2024,
arXiv 2412.06578). The U-Net's `time_cond_proj_dim` is the width of `scale_embedding`. model_index.json says which
scales it has learnt, as `distilled_scales`: {"guidance_scale": [lowest, highest], "image_guidance_scale": …}.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .checks import as_settings
from .guidance import AdaptiveProjection, Guidance

logger = logging.getLogger(__name__)

SCALES = ("guidance_scale", "image_guidance_scale")
BRANCHED = (
    "negative_prompt",
    "negative_prompt_2",
    "negative_prompt_embeds",
    "negative_pooled_prompt_embeds",
    "guidance_rescale",
    "adaptive_stop",
)

Learnt = Mapping[str, Sequence[float]]


class DistilledGuidance(Guidance):
    """The scales of a run, for a U-Net that has learnt what they do: one branch, whose prediction is the guided one.

    learnt: the lowest and highest of each scale. Those beyond are held to the nearest, and the user is told. Where 1 is
            not among them, no part of a run can be without guidance: intervals and ramps are refused

    The other arguments are `Guidance`'s.
    """

    def __init__(self, *scales: Any, learnt: Learnt, **arguments: Any) -> None:
        super().__init__(*scales, **arguments)
        ramped = arguments.get("guidance_schedule", "constant") != "constant"
        for name in SCALES:
            low, high = learnt[name]
            interval = name.replace("scale", "interval")
            if not low <= 1 <= high and (ramped or tuple(arguments.get(interval, (0, 1))) != (0, 1)):
                raise ValueError(
                    f"This checkpoint is distilled for {name} {low:g} to {high:g}, and without guidance it would be 1: "
                    f"leave out {'guidance_schedule' if ramped else interval}."
                )
        tables = zip(SCALES, (self._s_text, self._s_image), strict=True)
        self._s_text, self._s_image = (held(name, table, learnt[name]) for name, table in tables)
        s_text, s_image = (asked.clamp(*learnt[name]) for name, asked in zip(SCALES, self.asked, strict=True))
        self.asked = s_text, s_image

    def branches(self, step: int) -> tuple[str, ...]:
        """The one there is."""
        return ("full",)

    def combine(self, step: int, predictions: dict[str, Tensor], *_: Any) -> Tensor:
        """The prediction, which is guided already."""
        return predictions["full"]


def is_distilled(unet: Any) -> bool:
    """Whether a U-Net takes the scales as inputs."""
    return unet.config.time_cond_proj_dim is not None


def scale_range(pipe: Any, name: str) -> tuple[float, float]:
    """The lowest and the highest that a scale counts as: of a distilled checkpoint what it has learnt, else all."""
    low, high = pipe.config.distilled_scales[name] if is_distilled(pipe.unet) else (0.0, math.inf)
    return low, high


def counted(pipe: Any, name: str, value: float) -> float:
    """What a scale counts as: beyond what a distilled checkpoint has learnt, the nearest that it has."""
    low, high = scale_range(pipe, name)
    return min(max(value, low), high)


def guidance_class(pipe: Any) -> Callable[..., Guidance]:
    """What makes the guidance of a pipeline's runs."""
    if not is_distilled(pipe.unet):
        return Guidance
    return partial(DistilledGuidance, learnt=pipe.config.distilled_scales)


def held(name: str, table: Tensor, learnt: Sequence[float]) -> Tensor:
    """Scales, held to those that are learnt."""
    low, high = learnt
    inside = table.clamp(low, high)
    if not torch.equal(inside, table):
        asked = table[inside != table][0].item()
        logger.warning(
            "This checkpoint is distilled for %s %g to %g: %g counts as %g.",
            name, low, high, asked, min(max(asked, low), high),
        )  # fmt: skip
    return inside


def scale_embedding(unet: Any, s_text: Tensor, s_image: Tensor, like: Tensor) -> Tensor | None:
    """The scales [B] of B rows as `timestep_cond` of a U-Net, [B, time_cond_proj_dim]; None for one that takes none.

    Half of it is s_T's and half s_I's, so that each has weights of its own: sines and cosines of s, of 8 down to 0.08
    radians a unit, so that scales near each other look alike. Those of diffusers' LCM go up to 1000 a unit.
    """
    if not is_distilled(unet):
        return None
    from diffusers.models.embeddings import get_timestep_embedding  # loads long, and ComfyUI's start loads this file

    width = unet.config.time_cond_proj_dim
    parts = [
        get_timestep_embedding(s.float(), width // 2, downscale_freq_shift=1, scale=8, max_period=100)
        for s in (s_text, s_image)
    ]
    return torch.cat(parts, dim=-1).to(like.device, like.dtype)


def check_distilled(unet: Any, learnt: Learnt | None) -> None:
    """Raise ValueError unless a U-Net takes scales and its checkpoint says which, or neither."""
    width = unet.config.time_cond_proj_dim
    if (width is None) != (learnt is None):
        raise ValueError(
            "Of a distilled checkpoint, the U-Net has time_cond_proj_dim and model_index.json says the scales that it "
            f"learnt, distilled_scales: this one lacks {'time_cond_proj_dim' if width is None else 'distilled_scales'}."
        )
    if learnt is not None and not all(len(learnt.get(name, ())) == 2 for name in SCALES):
        raise ValueError(f"distilled_scales says the lowest and highest of {' and of '.join(SCALES)}, not {learnt}.")
    if width is not None and width % 4:
        raise ValueError(f"The U-Net's time_cond_proj_dim is a multiple of 4, for two scales, not {width}.")


def check_distilled_call(pipe: Any, call: Mapping[str, Any]) -> None:
    """Raise ValueError for arguments of a call that work on branches, of which a distilled checkpoint has one, and for
    more steps than it has learnt."""
    if not is_distilled(pipe.unet):
        return
    most, steps = pipe.scheduler.config.get("original_inference_steps"), call["num_inference_steps"]
    if most is not None and steps > most and call["timesteps"] is None:
        raise ValueError(f"This checkpoint is distilled for at most {most} steps, not {steps}.")
    given = [name for name in BRANCHED if is_given(call[name])]
    if as_settings(AdaptiveProjection, "adaptive_projection", call["adaptive_projection"]) is not None:
        given.append("adaptive_projection")
    if given:
        raise ValueError(f"This checkpoint is distilled into one branch, without {given[0]}: leave it out.")


def is_given(value: Any) -> bool:
    """Whether an argument asks for something: a list of empty texts does not."""
    return isinstance(value, Tensor) or (any(value) if isinstance(value, list) else bool(value))
