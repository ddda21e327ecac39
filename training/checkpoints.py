"""A training's whole state as one safetensors file: weights, their average, the optimizer's moments, and notes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor

from .files import room_for


def save_checkpoint(
    path: Path,
    step: int,
    parameters: list[nn.Parameter],
    ema: EMAModel | None,
    optimizer: torch.optim.Optimizer,
    notes: dict[str, str] | None = None,
) -> None:
    """Write everything a run goes on from as one file, whole or not at all.

    notes: what else must be known, as texts

    Raises OSError, in a sentence, where the disk is full; the file that was there stays.
    """
    tensors = {f"weight.{i}": local(p.detach()) for i, p in enumerate(parameters)}
    if ema is not None:
        tensors |= {f"ema.{i}": local(p) for i, p in enumerate(ema.shadow_params)}
    numbers, seen = {}, set()
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in flattened(state):
            if isinstance(value, torch.Tensor):
                mine = local(value)
                shared = mine.data_ptr() in seen  # as bitsandbytes' maps of quantization are; safetensors has no such
                tensors[f"adam.{i}.{name}"] = mine.clone() if shared else mine
                seen.add(mine.data_ptr())
            else:
                numbers[f"{i}.{name}"] = value
    metadata = {"step": str(step), "ema_step": str(ema.optimization_step if ema else 0), "numbers": json.dumps(numbers)}
    write_tensors(path, tensors, metadata | (notes or {}))


def flattened(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A parameter's state, and what is in a dictionary of it under both names; bitsandbytes has all in one."""
    for name, value in state.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", each) for inner, each in value.items())
        else:
            yield name, value


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process has of a tensor that is spread over several."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all. Raises OSError, in a sentence, where the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    try:
        with room_for(path):
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside, metadata=metadata)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def load_checkpoint(
    path: Path, parameters: list[nn.Parameter], ema: EMAModel | None, optimizer: torch.optim.Optimizer
) -> dict[str, str]:
    """Restore what `save_checkpoint` wrote; gives the notes, with `step` among them."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        states: dict[int, dict[str, Any]] = {}
        for name in file.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
            kind, index, *rest = name.split(".")
            tensor = file.get_tensor(name)
            if kind == "weight":
                local(parameters[int(index)].data).copy_(tensor)
            elif kind == "ema":
                if ema is not None:
                    local(ema.shadow_params[int(index)]).copy_(tensor)
            else:
                like = parameters[int(index)].detach()
                if tensor.shape == local(like).shape:
                    # In the parameter's memory format: optimizers walk both in the order in which they lie in memory.
                    like = torch.empty_like(like, dtype=tensor.dtype)
                    local(like).copy_(tensor)
                    tensor = like
                put(states.setdefault(int(index), {}), rest, tensor)
    for name, value in json.loads(metadata.pop("numbers", "{}")).items():
        index, *rest = name.split(".")
        put(states.setdefault(int(index), {}), rest, value)
    if ema is not None:
        ema.optimization_step = int(metadata["ema_step"])
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return metadata


def put(state: dict[str, Any], names: list[str], value: Any) -> None:
    """Put a value where `flattened` had it from."""
    *outer, last = names
    for name in outer:
        state = state.setdefault(name, {})
    state[last] = value
