"""The loss is that of the papers."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from finetune_data import settings
from ip2p.training.finetune.batches import Batch
from ip2p.training.finetune.draws import shifted
from ip2p.training.finetune.loop import learning_rate
from ip2p.training.finetune.trainee import AttentionInFloat32, Loss, Trainee
from tiny_models import SD_SCHEDULE, unet
from torch import Tensor

DEVICE = torch.device("cpu")


def batch(count: int = 6, **given: Any) -> Batch:
    g = torch.Generator().manual_seed(0)
    latents, condition, noise = (torch.randn(count, 4, 8, 8, generator=g) for _ in range(3))
    text = torch.randn(count, 5, 32, generator=g)
    timesteps = torch.tensor([0, 10, 300, 600, 900, 999])[:count]
    return Batch(**{
        "latents": latents, "condition": condition, "text": text, "pooled": None, "time_ids": torch.zeros(count, 6),
        "noise": noise, "timesteps": timesteps, "weight": torch.ones(count), **given,
    })  # fmt: skip


class Recorded(torch.nn.Module):
    """Answers with what it was told to, and keeps what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, noisy: Tensor, batch: Batch) -> Tensor:
        self.noisy = noisy
        return self.answer


def alphas() -> Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return (1 - betas).cumprod(0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_loss_is_that_of_a_plain_implementation(prediction: str, gamma: float | None) -> None:
    given, answer = batch(), torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    model = Recorded(answer)
    config = EulerAncestralDiscreteScheduler(**SD_SCHEDULE, prediction_type=prediction).config
    found = Loss(config, settings(min_snr_gamma=gamma), DEVICE)(model, given)
    a = alphas()[given.timesteps].view(-1, 1, 1, 1)
    noisy = a.sqrt() * given.latents + (1 - a).sqrt() * given.noise
    target = given.noise if prediction == "epsilon" else a.sqrt() * given.noise - (1 - a).sqrt() * given.latents
    expected = ((answer - target) ** 2).mean(dim=(1, 2, 3))
    if gamma is not None:
        snr = (a / (1 - a)).flatten()
        expected *= snr.clamp(max=gamma) / (snr if prediction == "epsilon" else snr + 1)
    assert torch.allclose(model.noisy, noisy, atol=1e-5)
    assert torch.allclose(found, expected, rtol=1e-4)


def test_the_model_says_what_it_predicts() -> None:
    config = DDIMScheduler(**SD_SCHEDULE, prediction_type="v_prediction").config
    assert Loss(config, settings(), DEVICE).prediction_type == "v_prediction"
    with pytest.raises(ValueError, match="predicts 'sample', which is not trained here"):
        Loss(DDIMScheduler(**SD_SCHEDULE, prediction_type="sample").config, settings(), DEVICE)


def test_a_schedule_down_to_pure_noise_stays_one() -> None:
    config = DDIMScheduler(**SD_SCHEDULE, rescale_betas_zero_snr=True, prediction_type="v_prediction").config
    assert Loss(config, settings(min_snr_gamma=5.0), DEVICE).schedule.alphas_cumprod[-1] < 1e-7
    assert (
        Loss(config, settings(min_snr_gamma=5.0), DEVICE)(Recorded(torch.zeros(6, 4, 8, 8)), batch()).isfinite().all()
    )


def test_the_unet_reads_the_source_beside_the_noise() -> None:
    torch.manual_seed(0)
    model = Trainee(unet().eval(), None)
    given = batch()
    with torch.no_grad():
        seen = model(given.latents, given)
        expected = model.unet(torch.cat([given.latents, given.condition], dim=1), given.timesteps, given.text).sample
    assert torch.allclose(seen, expected, atol=1e-5)


def test_learning_rates() -> None:
    constant = settings(steps=100, learning_rate=1.0, warmup=10)
    assert [learning_rate(constant, step) for step in (0, 4, 9, 50, 99)] == [0.1, 0.5, 1.0, 1.0, 1.0]
    linear = settings(steps=100, learning_rate=1.0, schedule="linear", fall=0.5)
    assert [learning_rate(linear, step) for step in (0, 50, 75, 99)] == [1.0, 1.0, 0.5, 0.02]
    cosine = settings(steps=100, learning_rate=1.0, schedule="cosine")
    assert learning_rate(cosine, 0) == 1.0 and learning_rate(cosine, 50) == pytest.approx(0.5)
    assert learning_rate(cosine, 99) < 0.01


def test_in_16_bits_a_cpu_computes_attention_in_float32() -> None:
    query, key, value = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    half = [each.bfloat16().requires_grad_() for each in (query, key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16), AttentionInFloat32():
        found = F.scaled_dot_product_attention(*half, scale=0.5)
    expected = F.scaled_dot_product_attention(*(each.float() for each in half), scale=0.5)
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected.bfloat16())
    found.float().square().sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in half)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_16_bits_learn_nearly_what_32_do(checkpointing: bool) -> None:
    gradients = []
    for half in (False, True):
        torch.manual_seed(0)
        model = Trainee(unet(), None).train()
        if checkpointing:
            model.unet.enable_gradient_checkpointing()
        given = batch(text=torch.randn(6, 5, model.unet.config.cross_attention_dim))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            model(torch.ones(6, 4, 8, 8), given).float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert F.cosine_similarity(*gradients, dim=0) > 0.98


def test_shifted_timesteps_are_nearer_to_noise_and_all_are_drawn() -> None:
    steps = torch.arange(1000)
    assert torch.equal(shifted(steps, 1000, 1.0), steps)
    moved = shifted(steps, 1000, 3.0)
    assert int(moved.min()) == 1 and int(moved.max()) == 999 and (moved >= steps).all()
    assert float((moved >= 500).float().mean()) == pytest.approx(0.75, abs=0.002)
