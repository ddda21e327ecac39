"""Where an instruction changes a picture, as the model itself tells, so that an edit stays local without a drawn mask.

Watch Your Steps (Mirzaei et al. 2023, arXiv 2308.08947, sec. 4.1): noise the picture's latent, and see where the
prediction with the instruction departs from one that edits nothing. The paper takes e(c_I,∅) for that, which itself
edits where a model has learnt what edits are like; but what leaves the picture as it is, is known: the latent itself.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoising import predict, predicted_x0
from .distilled import is_distilled


@dataclass(frozen=True)
class RelevanceMask:
    """Settings of the relevance mask.

    threshold:   relevance from which a place changes, above 0; see `relevance`
    noise_level: the share of the training's timesteps at which the model is asked, above 0 and below 1; one distilled
                 to few steps at the nearest of those that it has learnt
    against:     what counts as no edit: "picture" is the picture's own latent, "image" what e(c_I,∅) makes of it, as
                 in the paper, for one U-Net sample more
    """

    threshold: float = 0.25
    noise_level: float = 0.7
    against: Literal["picture", "image"] = "picture"

    def __post_init__(self) -> None:
        for name in ("threshold", "noise_level"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"relevance_mask's {name} must be a number, got {getattr(self, name)!r}.")
        if not 0 < self.threshold < float("inf"):
            raise ValueError(f"relevance_mask's threshold must be finite and above 0, got {self.threshold}.")
        if not 0 < self.noise_level < 1:
            raise ValueError(f"relevance_mask's noise_level must be above 0 and below 1, got {self.noise_level}.")
        if self.against not in ("picture", "image"):
            raise ValueError(f'relevance_mask\'s against must be "picture" or "image", got {self.against!r}.')


def relevance(edited: Tensor, unedited: Tensor) -> Tensor:
    """How much each place of clean sample latents [B,4,h,w] differs, [B,1,h,w].

    The mean absolute difference over the channels, in units of about the latents' standard deviation.
    """
    return (edited - unedited).abs().mean(dim=1, keepdim=True)


def relevant_places(
    pipe: Any,
    settings: RelevanceMask,
    clean: Tensor,
    noise: Tensor,
    conditions: Any,
    scales: tuple[Tensor, Tensor],
    cross_attention_kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """Where each row's instruction is relevant, and one latent further: 1, elsewhere 0, [B,1,h,w].

    pipe:       for its U-Net and its scheduler, which is left as it is
    clean:      the pictures' sample latents [B,4,h,w]
    noise:      of unit variance, alike
    conditions: `Conditions` of the B rows
    scales:     s_T and s_I, each [B], for a distilled checkpoint

    Raises ValueError for a scheduler without the ᾱ of the training's timesteps, and for e(c_I,∅) of a distilled one.
    """
    scheduler = pipe.scheduler
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"relevance_mask needs a scheduler with alphas_cumprod, which {type(scheduler).__name__} lacks."
        )
    if settings.against == "image" and is_distilled(pipe.unet):
        raise ValueError('This checkpoint is distilled into one branch: leave out relevance_mask\'s against="image".')
    t = torch.tensor(asked_at(scheduler, settings.noise_level))
    signal = float(scheduler.alphas_cumprod[t])
    sample = signal**0.5 * clean + (1 - signal) ** 0.5 * noise
    branches = ("full",) if settings.against == "picture" else ("full", "image")
    predictions = predict(pipe, sample, t.to(sample.device), branches, conditions, scales, cross_attention_kwargs)
    kind = scheduler.config.get("prediction_type", "epsilon")
    x0 = {branch: predicted_x0(sample, e, signal, kind) for branch, e in predictions.items()}
    relevant = relevance(x0["full"], x0.get("image", clean)) >= settings.threshold
    # The decoder spreads what changes at one latent over its neighbours.
    return F.max_pool2d(relevant.to(clean.dtype), kernel_size=3, stride=1, padding=1)


def asked_at(scheduler: Any, noise_level: float) -> int:
    """The timestep at a share of the schedule, or of a model of few steps the nearest one that it has learnt."""
    count = len(scheduler.alphas_cumprod)
    wanted = int(noise_level * count)
    steps = scheduler.config.get("original_inference_steps")  # LCM's: the parts that the schedule was learnt in
    if steps is None:
        return wanted
    learnt = [count // steps * part - 1 for part in range(1, steps + 1)]
    return min(learnt, key=lambda t: abs(t - wanted))
