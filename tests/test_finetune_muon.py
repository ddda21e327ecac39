"""Muon moves matrices by orthogonal steps, and all else as AdamW does."""

from typing import Any

import pytest
import torch
from ip2p.training.finetune.muon import LENGTH, Muon, all_orthogonal, matrices_of
from torch import nn

OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.01}


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(16, 32, 3), nn.GroupNorm(4, 32), nn.Flatten(), nn.Linear(32 * 4, 24), nn.Linear(24, 3)
    )


def learn(trained: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    g = torch.Generator().manual_seed(1)
    inputs, wanted = torch.randn(64, 16, 4, 4, generator=g), torch.randn(64, 3, generator=g)
    losses = []
    for _ in range(steps):
        loss = (trained(inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("shape", [(24, 60), (60, 24)])
def test_a_step_is_about_the_nearest_orthogonal_matrix(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    _, found, _ = all_orthogonal([torch.ones(24, 24), matrix, torch.ones(60, 24)])
    assert found.shape == shape and found.dtype == torch.float32
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.4
    assert torch.nn.functional.cosine_similarity(found.flatten(), (left @ right).flatten(), dim=0) > 0.97


def test_matrices_are_the_weights_of_layers_but_no_embedding_and_nothing_thin() -> None:
    trained = nn.ModuleList([*model(), nn.Embedding(30, 20)])
    assert [each.shape for each in matrices_of(trained)] == [(32, 16, 3, 3), (24, 128)]
    trained[0].requires_grad_(False)
    assert [each.shape for each in matrices_of(trained)] == [(24, 128)]


def test_the_first_step_is_as_long_as_adamw_s_and_the_rest_moves_as_adamw_moves_it() -> None:
    trained, like = model(), model()
    before = [each.detach().clone() for each in trained.parameters()]
    matrices = {id(each) for each in matrices_of(trained)}
    for parameter, other in zip(trained.parameters(), like.parameters(), strict=True):
        parameter.grad = torch.randn(parameter.shape)
        other.grad = parameter.grad.clone()
    Muon(trained.parameters(), matrices_of(trained), **OPTIONS).step()
    torch.optim.AdamW(like.parameters(), **OPTIONS).step()
    for old, parameter, other in zip(before, trained.parameters(), like.parameters(), strict=True):
        if id(parameter) in matrices:
            assert (parameter - old).square().mean().sqrt().item() == pytest.approx(LENGTH * OPTIONS["lr"], rel=0.2)
        else:
            assert torch.allclose(parameter, other, rtol=1e-4, atol=1e-7)


def test_several_steps_of_what_is_no_matrix_are_adamw_s() -> None:
    one, other = (nn.Parameter(torch.ones(5)) for _ in range(2))
    optimizers = Muon([one], [], **OPTIONS), torch.optim.AdamW([other], **OPTIONS)
    for number in range(4):
        for parameter, optimizer in zip((one, other), optimizers, strict=True):
            parameter.grad = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]) * (number - 1.5)
            optimizer.step()
    assert torch.allclose(one, other, rtol=1e-5) and not torch.allclose(one, torch.ones(5))


def test_it_learns() -> None:
    trained = model()
    losses = learn(trained, Muon(trained.parameters(), matrices_of(trained), **OPTIONS), 60)
    assert losses[-1] < 0.2 * losses[0]
