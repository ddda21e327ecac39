"""The denoising loop."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .checks import check_changed
from .distilled import scale_embedding
from .guidance import Guidance, x0_coefficients

Watch = Callable[[int, int, Callable[[], Tensor]], None]


def denoise(
    pipe: Any,
    start: Tensor,
    noise: Tensor,
    conditions: Any,
    guidance: Callable[[], Guidance],
    timesteps: Tensor,
    *,
    keep: tuple[Tensor, Tensor] | None = None,
    step_kwargs: dict[str, Any],
    cross_attention_kwargs: dict[str, Any] | None = None,
    callback: Callable[..., dict[str, Any]] | None = None,
    callback_tensors: Sequence[str] = (),
    watch: Watch | None = None,
) -> Tensor:
    """Sample B rows; only the branches that a step needs go through the U-Net.

    pipe:       the pipeline, for its U-Net, scheduler, progress bar, and what callbacks set on it
    start:      the latents [B,4,h,w] that the first timestep expects
    noise:      what was drawn for them, of unit variance
    conditions: `Conditions` of the B rows
    guidance:   makes the `Guidance` of the scales that hold now, which a callback may change
    timesteps:  the scheduler's, set for this run; those of order 2 evaluate the model twice a step
    keep:       (mask [B,1,h,w], the input's sample latents [B,4,h,w]) for an edit inside the mask only
    watch:      called after each step as (steps done, of how many, x0), where x0() gives the clean latents [B,4,h,w]
                that the step predicted
    """
    scheduler, order = pipe.scheduler, getattr(pipe.scheduler, "order", 1)
    prediction_type = scheduler.config.get("prediction_type", "epsilon")
    latents, guide = start, guidance()
    total = count_steps(scheduler, timesteps)
    with pipe.progress_bar(total=total) as progress:
        for i, t in enumerate(timesteps):
            if pipe.interrupt:
                break
            step = i // order
            branches = guide.branches(step)
            sample = scheduler.scale_model_input(latents, t)
            predictions = predict(pipe, sample, t, branches, conditions, guide.scales(step), cross_attention_kwargs)
            signal = alpha_bar(scheduler, t) if guide.projection or watch is not None else math.nan
            guided = guide.combine(step, predictions, sample, signal, prediction_type)
            latents = scheduler.step(guided, t, latents, **step_kwargs, return_dict=False)[0]
            if keep is not None:
                mask, clean = keep
                last = i + 1 == len(timesteps)
                outside = clean if last else noised(scheduler, clean, noise, timesteps[i + 1])
                latents = torch.lerp(outside, latents, mask)

            if callback is not None:
                tensors = {"latents": latents}
                if set(callback_tensors) - {"latents"}:
                    tensors |= conditions.tensors()
                given = {name: tensors[name] for name in callback_tensors}
                changed = callback(pipe, i, t, dict(given)) or {}
                check_changed(changed, given)
                latents = changed.pop("latents", latents)
                if changed:
                    conditions.replace(**changed)
                guide = guidance().after(guide)
            if i + 1 == len(timesteps) or (i + 1) % order == 0:
                progress.update()
                if watch is not None:
                    watch(step + 1, total, partial(predicted_x0, sample, guided, signal, prediction_type))
    return latents


def predict(
    pipe: Any,
    sample: Tensor,
    timestep: Tensor,
    branches: tuple[str, ...],
    conditions: Any,
    scales: tuple[Tensor, Tensor],
    cross_attention_kwargs: dict[str, Any] | None,
) -> dict[str, Tensor]:
    """What the U-Net predicts in these branches, each [B,4,h,w], for B rows of scaled model input, in one batch.

    scales: s_T and s_I, each [B], which a distilled U-Net takes as inputs
    """
    image_latents, prompt_embeds, added = conditions.batch(branches)
    prediction = pipe.unet(
        torch.cat([torch.cat([sample] * len(branches)), image_latents], dim=1),
        timestep,
        encoder_hidden_states=prompt_embeds,
        timestep_cond=scale_embedding(pipe.unet, *scales, sample),
        added_cond_kwargs=added,
        cross_attention_kwargs=cross_attention_kwargs,
        return_dict=False,
    )[0]
    return dict(zip(branches, prediction.chunk(len(branches)), strict=True))


def predicted_x0(sample: Tensor, prediction: Tensor, signal: float, prediction_type: str) -> Tensor:
    """The clean latents that a prediction stands for, given the scaled model input √ᾱ·x0 + √(1−ᾱ)·ε, and ᾱ."""
    c_x, c_e = x0_coefficients(prediction_type, signal)
    return c_x * sample + c_e * prediction


def count_steps(scheduler: Any, timesteps: Tensor) -> int:
    """How many steps the timesteps make: a scheduler of order 2 evaluates the model twice in each but the last."""
    return -(-len(timesteps) // getattr(scheduler, "order", 1))


def last_steps(scheduler: Any, timesteps: Tensor, strength: float) -> Tensor:
    """The share of the timesteps that a strength asks for, the least noisy ones, at least one step."""
    plms = hasattr(scheduler, "plms_timesteps") and scheduler.config.skip_prk_steps
    if plms:  # it evaluates the model twice at the second timestep, wherever it begins
        timesteps = torch.cat([timesteps[:1], timesteps[2:]])
    order, total = getattr(scheduler, "order", 1), count_steps(scheduler, timesteps)
    skipped = min(round(total * (1 - strength)), total - 1) * order
    if skipped and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    left = timesteps[skipped:]
    return torch.cat([left[:2], left[1:]]) if plms else left


def noise_level(scheduler: Any, timestep: Tensor) -> float | None:
    """σ of the state x0 + σ·ε at which the scheduler stands, for one whose noise adds to the variance, else None.

    Such a scheduler scales its state for the model, by 1/√(σ² + σ_data²). Between two timesteps too, where KDPM2
    evaluates the model and `add_noise` does not know the level.
    """
    scale = float(scheduler.scale_model_input(torch.ones(1, dtype=torch.float64), timestep))
    return None if scale == 1 else math.sqrt(max(1 / scale**2 - scheduler.config.get("sigma_data", 1.0) ** 2, 0))


def alpha_bar(scheduler: Any, timestep: Tensor) -> float:
    """ᾱ of the step about to be taken: the share of signal in the scaled model input √ᾱ·x0 + √(1−ᾱ)·ε."""
    sigma = noise_level(scheduler, timestep)
    if sigma is None and hasattr(scheduler, "sigmas"):
        index = scheduler.step_index  # None before the first step
        sigma = float(scheduler.sigmas[(scheduler.begin_index or 0) if index is None else index])
    return float(scheduler.alphas_cumprod[int(timestep)]) if sigma is None else 1 / (1 + sigma**2)


def noised(scheduler: Any, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Sample latents [B,4,h,w] as they are with this noise at the level that the next step expects.

    As RePaint and SDEdit do (Lugmayr et al. 2022, arXiv 2201.09865, eq. 8a; Meng et al. 2021, arXiv 2108.01073).
    """
    sigma = noise_level(scheduler, timestep)
    return scheduler.add_noise(clean, noise, timestep[None]) if sigma is None else clean + sigma * noise
