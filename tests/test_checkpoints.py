"""The whole state of a training in a file."""

from pathlib import Path
from typing import Any

import torch
from ip2p.training.checkpoints import load_checkpoint, save_checkpoint
from torch import nn

MAP = torch.linspace(0, 1, 256)
QUANTIZED = "quantized"


class LikeBitsandbytes(torch.optim.AdamW):
    """Tells its moments in a dictionary of their own, with a map that all parameters share."""

    def state_dict(self) -> dict[str, Any]:
        told = super().state_dict()
        for index, state in told["state"].items():
            moments = {name: value for name, value in state.items() if name != "step"}
            told["state"][index] = {"step": int(state["step"]), QUANTIZED: {**moments, "map": MAP}}
        return told

    def load_state_dict(self, told: dict[str, Any]) -> None:
        for index, state in told["state"].items():
            inner = state.pop(QUANTIZED)
            assert torch.equal(inner.pop("map"), MAP)
            told["state"][index] = {"step": torch.tensor(float(state["step"])), **inner}
        super().load_state_dict(told)


def move(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def begin() -> tuple[nn.Module, LikeBitsandbytes]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    return model, LikeBitsandbytes(model.parameters(), lr=0.1)


def test_an_optimizer_whose_state_is_shared_and_nested_goes_on(tmp_path: Path) -> None:
    model, optimizer = begin()
    for step in range(3):
        move(model, optimizer, step)
    save_checkpoint(tmp_path / "state.safetensors", 3, list(model.parameters()), None, optimizer)
    other, resumed = begin()
    assert load_checkpoint(tmp_path / "state.safetensors", list(other.parameters()), None, resumed)["step"] == "3"
    for step in range(3, 6):
        move(model, optimizer, step)
        move(other, resumed, step)
    assert all(torch.equal(*each) for each in zip(model.parameters(), other.parameters(), strict=True))
