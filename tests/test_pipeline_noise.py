"""The noise level of what the U-Net sees: from the input on, outside a mask, and in half precision."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from ip2p.ip2p_pipeline.guidance import project
from ip2p.ip2p_pipeline.latents import decode, encode_mode, float32_where_needed, sample_from_mode
from PIL import Image
from tiny_models import SD_SCHEDULE, counted_samples, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

SCHEDULERS = """DDIM DDPM DEISMultistep DPMSolverMultistep DPMSolverSinglestep EulerAncestralDiscrete EulerDiscrete
HeunDiscrete KDPM2AncestralDiscrete KDPM2Discrete LCM PNDM UniPCMultistep"""


def half_mask() -> Image.Image:
    """White on the right half: edit there."""
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    return mask


def clean_latents(pipe: Any) -> torch.Tensor:
    rgb = torch.from_numpy(np.asarray(picture()).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        return pipe.vae.encode(rgb).latent_dist.mode() * pipe.vae.config.scaling_factor


def seen_by_the_unet(pipe: Any, **call: Any) -> list[tuple[torch.Tensor, float]]:
    """The noisy latent and the timestep of each evaluation."""
    seen: list[tuple[torch.Tensor, float]] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append((args[0][:1, :4].clone(), float(args[1]))))
    edit(pipe, **call)
    handle.remove()
    return seen


def shares(latent: torch.Tensor, clean: torch.Tensor, start: torch.Tensor) -> tuple[float, float]:
    """How much of the clean latent and of the noise a latent is made of, by least squares."""
    parts = torch.stack([clean.flatten(), start.flatten()], dim=1).double()
    found = torch.linalg.lstsq(parts, latent.flatten()[:, None].double()).solution.flatten()
    return float(found[0]), float(found[1])


def expected(scheduler: Any, timestep: float) -> tuple[float, float]:
    """√ᾱ and √(1−ᾱ) at a timestep, which may lie between two."""
    log_sigma = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).log().numpy() / 2
    sigma = float(np.exp(np.interp(timestep, np.arange(1000), log_sigma)))
    return 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5


@pytest.mark.parametrize("name", SCHEDULERS.split())
def test_outside_the_mask_the_unet_sees_the_input_at_each_step_s_noise(name: str) -> None:
    pipe = sd_pipeline()
    pipe.scheduler = getattr(diffusers, f"{name}Scheduler").from_config(pipe.scheduler.config)
    start = torch.randn(1, 4, 16, 16, generator=noise(3))
    outside, clean = (..., slice(0, 7)), clean_latents(pipe)
    seen = seen_by_the_unet(pipe, mask_image=half_mask(), latents=start, num_inference_steps=6)
    assert len(seen) >= 6
    for latent, timestep in seen[1:]:
        found = shares(latent[outside], clean[outside], start[outside])
        assert found == pytest.approx(expected(pipe.scheduler, timestep), abs=0.03)


@pytest.mark.parametrize("name", SCHEDULERS.split())
def test_strength_begins_from_the_input_at_the_noise_of_its_first_step(name: str) -> None:
    pipe = sd_pipeline()
    pipe.scheduler = getattr(diffusers, f"{name}Scheduler").from_config(pipe.scheduler.config)
    start = torch.randn(1, 4, 16, 16, generator=noise(3))
    whole = seen_by_the_unet(pipe, latents=start, num_inference_steps=10)
    seen = seen_by_the_unet(pipe, latents=start, num_inference_steps=10, strength=0.5)
    assert len(seen) == pytest.approx(len(whole) / 2, abs=1)
    latent, timestep = seen[0]
    assert shares(latent, clean_latents(pipe), start) == pytest.approx(expected(pipe.scheduler, timestep), abs=0.03)


@pytest.mark.parametrize("name", ["DDIM", "PNDM"])
@pytest.mark.parametrize("strength", [0.5, 0.2, 0.1])
def test_the_latents_are_as_noisy_as_each_timestep_says(name: str, strength: float) -> None:
    """With a U-Net that tells noise from picture without a fault; PNDM as SD's checkpoints have it."""
    cls = getattr(diffusers, f"{name}Scheduler")
    pipe = sd_pipeline(scheduler=cls(**SD_SCHEDULE, **({"skip_prk_steps": True} if name == "PNDM" else {})))
    start, clean = torch.randn(1, 4, 16, 16, generator=noise(3)), clean_latents(pipe)

    def right(_: Any, given: tuple[torch.Tensor, ...], __: Any) -> tuple[torch.Tensor]:
        return (start.expand(len(given[0]), -1, -1, -1),)

    pipe.unet.register_forward_hook(right)
    seen = seen_by_the_unet(pipe, latents=start, num_inference_steps=10, strength=strength)
    for latent, timestep in seen:
        assert shares(latent, clean, start) == pytest.approx(expected(pipe.scheduler, timestep), abs=0.01)
    repeats = name == "PNDM" and strength > 0.1
    assert len(seen) == round(10 * strength) + repeats


def test_the_weaker_the_strength_the_nearer_the_input() -> None:
    pipe = sd_pipeline()
    clean = clean_latents(pipe)
    call = {"num_inference_steps": 10, "output_type": "latent"}
    distances = [float((edit(pipe, strength=s, **call) - clean).square().mean()) for s in (0.1, 0.4, 1.0)]
    assert distances == sorted(distances)
    assert distance(edit(pipe, strength=1.0), edit(pipe)) == 0
    with counted_samples(pipe) as counts:
        edit(pipe, strength=0.01)
    assert counts == [3]


def test_projection_is_what_its_formula_says_of_a_velocity() -> None:
    """A last Euler step ends at x̂0, so the result is the projected guidance itself."""
    scheduler = diffusers.EulerDiscreteScheduler(**SD_SCHEDULE, prediction_type="v_prediction")
    pipe = sd_pipeline(scheduler=scheduler)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = pipe.unet.register_forward_hook(lambda _, args, out: seen.append((args[0][:1, :4], out[0])))
    call = {"guidance_scale": 9.0, "image_guidance_scale": 2.0, "timesteps": [600], "output_type": "latent"}
    result = edit(pipe, adaptive_projection={"eta": 0.3, "norm_threshold": 2.0, "momentum": 0.0}, **call)
    handle.remove()
    x, velocities = seen[-1]
    signal = 1 / (1 + float(scheduler.sigmas[-2]) ** 2)
    full, image, uncond = (signal**0.5 * x - (1 - signal) ** 0.5 * v for v in velocities.chunk(3))
    text_part, image_part = (project(d, full, 0.3, 2.0) for d in (full - image, image - uncond))
    assert distance(result, full + 8 * text_part + 1 * image_part) < 1e-4
    assert distance(result, full + 8 * (full - image) + (image - uncond)) > 1e-2


def test_the_autoencoder_reads_the_picture_as_precisely_as_its_type_can() -> None:
    pipe = sd_pipeline().to(dtype=torch.bfloat16)
    seen: list[torch.Tensor] = []
    handle = pipe.vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    rgb = torch.rand(1, 3, 16, 16, generator=noise())
    encode_mode(pipe.vae, rgb)
    handle.remove()
    assert torch.equal(seen[0], (2 * rgb - 1).to(torch.bfloat16))


@pytest.mark.parametrize(
    "statistics", [{}, {"latents_mean": [0.5, -1.0, 2.0, 0.0], "latents_std": [1.0, 2.0, 0.5, 3.0]}]
)
def test_a_sample_decodes_to_what_its_mode_does(statistics: dict[str, list[float]]) -> None:
    pipe = sdxl_pipeline()
    pipe.vae.register_to_config(**statistics)
    mode = torch.randn(1, 4, 8, 8, generator=noise())
    with torch.no_grad():
        assert distance(decode(pipe.vae, sample_from_mode(pipe.vae, mode)), pipe.vae.decode(mode).sample) < 1e-4


def test_sdxl_s_autoencoder_runs_in_float32_where_its_config_asks() -> None:
    vae = sdxl_pipeline().vae.half()
    for xl, asks, dtype in ((True, True, torch.float32), (True, False, torch.float16), (False, True, torch.float16)):
        vae.register_to_config(force_upcast=asks)
        with float32_where_needed(vae, xl):
            assert vae.dtype == dtype
        assert vae.dtype == torch.float16
