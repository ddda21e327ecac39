"""Where to compute."""

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
