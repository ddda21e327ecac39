import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from ip2p.training.pairs.samplers import denoise, euler_step, model_sigmas, schedule, timestep_of
from tiny_models import SD_SCHEDULE

ALPHAS = DDIMScheduler(**SD_SCHEDULE).alphas_cumprod


def test_uniform_sigmas_are_the_originals():
    sigmas, timesteps = schedule(ALPHAS, 100, "uniform")
    assert len(sigmas) == 101 and sigmas[-1] == 0
    assert sigmas[0] == pytest.approx(14.6146, abs=1e-3)
    assert sigmas[-2] == pytest.approx(0.0292, abs=1e-4)
    assert timesteps[0] == 999 and timesteps[-1] == 0
    assert torch.allclose(timesteps.diff(), torch.full((99,), -999 / 99))


def test_karras_sigmas_are_diffusers():
    theirs = EulerDiscreteScheduler(**SD_SCHEDULE, use_karras_sigmas=True, timestep_spacing="linspace")
    theirs.set_timesteps(10)
    sigmas, timesteps = schedule(ALPHAS, 10, "karras")
    assert torch.allclose(sigmas, theirs.sigmas, rtol=1e-4)
    assert torch.allclose(timesteps, theirs.timesteps, atol=1.0)


def test_timesteps_and_sigmas_are_inverse():
    known = model_sigmas(ALPHAS)
    assert torch.allclose(timestep_of(known, known), torch.arange(1000.0, dtype=torch.float64))


def test_a_schedule_that_ends_in_pure_noise_is_finite():
    alphas = DDIMScheduler(**SD_SCHEDULE, rescale_betas_zero_snr=True).alphas_cumprod
    for kind in ("uniform", "karras"):
        sigmas, _ = schedule(alphas, 10, kind)
        assert torch.isfinite(sigmas).all() and (sigmas.diff() < 0).all()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="uniform"):
        schedule(ALPHAS, 10, "cosine")
    with pytest.raises(ValueError, match="epsilon"):
        denoise(torch.zeros(1), torch.zeros(1), torch.tensor(1.0), "sample")


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_the_clean_picture(prediction_type):
    clean, noise, sigma = torch.randn(2, 4), torch.randn(2, 4), torch.tensor(3.0)
    alpha = 1 / (sigma**2 + 1)
    output = noise if prediction_type == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    assert torch.allclose(denoise(clean + sigma * noise, output, sigma, prediction_type), clean, atol=1e-5)


def test_an_ancestral_step_keeps_the_noise_level():
    generator = torch.Generator().manual_seed(0)
    sigma, lower = torch.tensor(5.0), torch.tensor(3.0)
    x = torch.randn(200_000, generator=generator) * sigma
    fresh = torch.randn(200_000, generator=generator)
    assert euler_step(x, torch.zeros(200_000), sigma, lower, fresh).std() == pytest.approx(3.0, rel=0.01)
    assert euler_step(x, torch.zeros(200_000), sigma, lower, None).std() == pytest.approx(3.0, rel=0.01)
