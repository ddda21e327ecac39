"""The denoising loop."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def denoise(
    pipe: Any,
    noise: Tensor,
    conditions: Any,
    guidance: Callable[[], Any],
    timesteps: Tensor,
    *,
    keep: tuple[Tensor, Tensor] | None = None,
    step_kwargs: dict[str, Any],
    cross_attention_kwargs: dict[str, Any] | None = None,
    callback: Callable[..., dict[str, Any]] | None = None,
    callback_tensors: Sequence[str] = (),
) -> Tensor:
    """Sample B rows from unit noise [B,4,h,w]; only the branches that a step needs go through the U-Net.

    pipe:       the pipeline, for its U-Net, scheduler, progress bar, and what callbacks set on it
    conditions: `Conditions` of the B rows
    guidance:   makes the `Guidance`, again when a callback has changed the scales
    timesteps:  the scheduler's, set for this run
    keep:       (mask [B,1,h,w], the input's sample latents [B,4,h,w]) for an edit inside the mask only
    """
    scheduler, order = pipe.scheduler, getattr(pipe.scheduler, "order", 1)
    prediction_type = scheduler.config.get("prediction_type", "epsilon")
    latents = noise * scheduler.init_noise_sigma
    guide, scales = guidance(), (pipe.guidance_scale, pipe.image_guidance_scale)
    with pipe.progress_bar(total=-(-len(timesteps) // order)) as progress:
        for i, t in enumerate(timesteps):
            if pipe.interrupt:
                break
            branches = guide.branches(i)
            image_latents, prompt_embeds, added = conditions.batch(branches)
            sample = scheduler.scale_model_input(latents, t)
            prediction = pipe.unet(
                torch.cat([torch.cat([sample] * len(branches)), image_latents], dim=1),
                t,
                encoder_hidden_states=prompt_embeds,
                added_cond_kwargs=added,
                cross_attention_kwargs=cross_attention_kwargs,
                return_dict=False,
            )[0]
            predictions = dict(zip(branches, prediction.chunk(len(branches)), strict=True))
            signal = alpha_bar(scheduler, t) if guide.projection else None
            guided = guide.combine(i, predictions, sample, signal, prediction_type)
            latents = scheduler.step(guided, t, latents, **step_kwargs, return_dict=False)[0]
            if keep is not None:
                after = timesteps[i + 1] if i + 1 < len(timesteps) else None
                latents = keep_outside(latents, *keep, noise, scheduler, after)

            if callback is not None:
                tensors = {"latents": latents}
                if set(callback_tensors) - {"latents"}:
                    tensors |= conditions.tensors()
                changed = callback(pipe, i, t, {name: tensors[name] for name in callback_tensors}) or {}
                latents = changed.pop("latents", latents)
                if changed:
                    conditions.replace(**changed)
                if scales[0] is not pipe.guidance_scale or scales[1] is not pipe.image_guidance_scale:
                    guide, scales = guidance(), (pipe.guidance_scale, pipe.image_guidance_scale)
            if i == len(timesteps) - 1 or (i + 1) % order == 0:
                progress.update()
    return latents


def alpha_bar(scheduler: Any, timestep: Tensor) -> float:
    """ᾱ of the step about to be taken: the share of signal in the scaled model input √ᾱ·x0 + √(1−ᾱ)·ε."""
    if hasattr(scheduler, "sigmas"):
        sigma = float(scheduler.sigmas[scheduler.step_index or 0])
        return 1 / (1 + sigma**2)
    return float(scheduler.alphas_cumprod[int(timestep)])


def keep_outside(
    latents: Tensor, mask: Tensor, clean: Tensor, noise: Tensor, scheduler: Any, next_timestep: Tensor | None
) -> Tensor:
    """Replace what lies outside the mask by the input, noised to the level that the next step expects.

    As RePaint does (Lugmayr et al. 2022, arXiv 2201.09865, eq. 8a), with the run's own first noise, so that nothing
    more is drawn. mask: [B,1,h,w], 1 = edit; clean: the input's sample latents; next_timestep: None after the last.
    """
    outside = clean if next_timestep is None else scheduler.add_noise(clean, noise, next_timestep[None])
    return torch.lerp(outside, latents, mask)
