"""What chance decides of each example: what is dropped of it, the timestep, and the noise."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .order import rng_of, seed_of
from .settings import LossSettings

Scales = tuple[tuple[float, float], tuple[float, float]]  # the lowest and highest s_T, and s_I


class Dropped(NamedTuple):
    """What an example loses."""

    text: bool
    image: bool


def draw_dropped(number: int, seed: int, settings: LossSettings) -> Dropped:
    """Conditioning dropout of the example at a place (InstructPix2Pix, section 3.2.1)."""
    u = rng_of(seed, "dropout", number).random()
    text = u < settings.drop_text + settings.drop_both
    image = settings.drop_text <= u < settings.drop_text + settings.drop_both + settings.drop_image
    return Dropped(text, image)


def draw_scales(numbers: list[int], seed: int, scales: Scales) -> Tensor:
    """s_T and s_I of the examples at these places, uniform in their ranges, [N, 2]."""
    return torch.tensor(
        [[rng.uniform(*each) for each in scales] for rng in (rng_of(seed, "scales", n) for n in numbers)]
    )


def draw_noise(
    numbers: list[int], seed: int, shape: tuple[int, ...], timesteps: int, shift: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """For the examples at these places: two noises [N, *shape], of the target's sample and of the diffusion, and a
    timestep [N] below `timesteps`, shifted as `shifted` says."""
    noises = np.empty((len(numbers), 2, *shape), np.float32)
    steps = np.empty(len(numbers), np.int64)
    for at, number in enumerate(numbers):
        # Not torch's: its generator takes thirty times as long to begin with, and each example has one of its own.
        rng = np.random.Generator(np.random.Philox(key=seed_of(seed, "noise", number)))
        rng.standard_normal(out=noises[at], dtype=np.float32)
        steps[at] = rng.integers(timesteps)
    sample, noise = torch.from_numpy(noises).unbind(1)
    return sample, noise, shifted(torch.from_numpy(steps), timesteps, shift)


def shifted(steps: Tensor, timesteps: int, shift: float) -> Tensor:
    """Timesteps moved towards pure noise for a shift above 1 (Esser et al. 2024, arXiv 2403.03206, equation 23)."""
    share = (steps + 0.5) / timesteps
    return (timesteps * shift * share / (1 + (shift - 1) * share)).long()
