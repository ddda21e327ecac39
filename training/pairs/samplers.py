"""Euler's methods in the noise level sigma, after k-diffusion: a picture x is x₀ + sigma·noise.

Karras et al. 2022 (arXiv 2206.00364), Algorithm 2 without its churn; the original InstructPix2Pix samples so.
"""

import torch
from torch import Tensor

LAST_ALPHA = 2.0**-24  # of a schedule that ends in pure noise, whose sigma would be infinite


def model_sigmas(alphas_cumprod: Tensor) -> Tensor:
    """The noise level of each of the model's timesteps, rising: [T]."""
    alphas = alphas_cumprod.double().clamp(min=LAST_ALPHA)
    return ((1 - alphas) / alphas).sqrt()


def schedule(alphas_cumprod: Tensor, steps: int, kind: str) -> tuple[Tensor, Tensor]:
    """Noise levels [steps + 1] from the model's highest to 0, and the model's timestep at each but the last [steps].

    "uniform": k-diffusion's `get_sigmas`, uniform in timestep. "karras": uniform in sigma^(1/7), Eq. 5.
    """
    known = model_sigmas(alphas_cumprod)
    if kind == "uniform":
        timesteps = torch.linspace(len(known) - 1, 0, steps, dtype=torch.float64)
        sigmas = at(timesteps, known.log()).exp()
    elif kind == "karras":
        high, low = known[-1] ** (1 / 7), known[0] ** (1 / 7)
        sigmas = torch.lerp(high, low, torch.linspace(0, 1, steps, dtype=torch.float64)) ** 7
        timesteps = timestep_of(sigmas, known)
    else:
        raise ValueError(f'--sigmas is "uniform" or "karras", not {kind!r}.')
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float(), timesteps.float()


def at(positions: Tensor, values: Tensor) -> Tensor:
    """Values read between two places of a list: [N] positions → [N]."""
    low = positions.floor().long().clamp(max=len(values) - 2)
    return torch.lerp(values[low], values[low + 1], positions - low)


def timestep_of(sigmas: Tensor, known: Tensor) -> Tensor:
    """The timestep, a fraction allowed, whose noise level is that; linear in log sigma."""
    logs, wanted = known.log(), sigmas.log()
    low = (torch.searchsorted(logs, wanted, right=True) - 1).clamp(0, len(logs) - 2)
    return low + ((wanted - logs[low]) / (logs[low + 1] - logs[low])).clamp(0, 1)


def denoise(x: Tensor, output: Tensor, sigma: Tensor, prediction_type: str) -> Tensor:
    """The clean picture that the model's output at x / sqrt(sigma² + 1) means."""
    if prediction_type == "epsilon":
        return x - sigma * output
    if prediction_type == "v_prediction":
        return x / (sigma**2 + 1) - output * sigma / (sigma**2 + 1).sqrt()
    raise ValueError(f"A model that predicts {prediction_type!r} can't be sampled: epsilon and v_prediction can.")


def euler_step(x: Tensor, denoised: Tensor, sigma: Tensor, next_sigma: Tensor, noise: Tensor | None) -> Tensor:
    """x at the next noise level: straight on, or with fresh `noise` ancestrally (eta 1)."""
    up = torch.zeros_like(sigma)
    if noise is not None:
        up = torch.minimum(next_sigma, (next_sigma**2 * (sigma**2 - next_sigma**2) / sigma**2).sqrt())
    down = (next_sigma**2 - up**2).sqrt()
    x = x + (x - denoised) / sigma * (down - sigma)
    return x if noise is None else x + up * noise
