"""Where to compute, and how exactly."""

import platform

import torch

from .errors import first_line


def find_device(name: str | None) -> torch.device:
    """The device of that name, or the best one here. Raises ValueError where it can't be used."""
    if name is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # meta, which computes nothing, has devices too
        return device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"--device {name} can't be used here: {first_line(error)}.") from error


def find_dtype(name: str | None, device: torch.device, usual: torch.dtype = torch.float16) -> torch.dtype:
    """The precision of that name on a device; the usual one, on a CPU float32, where there is no name.

    A CPU that has no arithmetic for bfloat16 gets float32 in its place.
    """
    if name is None:
        return torch.float32 if device.type == "cpu" else usual
    dtype: torch.dtype = getattr(torch, name)
    return torch.float32 if emulates(dtype, device) else dtype


def emulates(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a device has no arithmetic for bfloat16: there the shapes model takes 15 times as long as in float32."""
    if dtype != torch.bfloat16 or device.type != "cpu":
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return not torch.cpu._is_avx512_bf16_supported()
    return not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
