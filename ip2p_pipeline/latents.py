"""Pixels to latents and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FORMAT = torch.channels_last
"""Of the latents that are decoded: of a batch, the convolutions take a fifth less time on CPUs."""


@contextmanager
def float32_where_needed(vae: Any, xl: bool) -> Iterator[None]:
    """SDXL's autoencoder overflows in float16: run it in float32, as its config asks."""
    upcast = xl and vae.dtype == torch.float16 and vae.config.force_upcast
    if upcast:
        vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(dtype=torch.float16)


def encode_mode(vae: Any, rgb: Tensor) -> Tensor:
    """The posterior's mode of pictures [N,3,h,w] in [0,1], unscaled, as the U-Net reads it: [N,4,h/8,w/8]."""
    encoded = vae.encode((2 * rgb - 1).to(vae.dtype))
    if not hasattr(encoded, "latent_dist"):
        raise ValueError(
            f"{type(vae).__name__} does not give the latents that the U-Net was trained on: encode the picture by "
            "the checkpoint's own autoencoder and pass image_latents."
        )
    return encoded.latent_dist.mode()


def decode(vae: Any, sample: Tensor) -> Tensor:
    """Pictures [N,3,h,w] in about [-1,1] of sample latents."""
    config = vae.config
    mean, std = channel_statistics(vae, sample)
    latents = sample * std / config.scaling_factor + mean
    return vae.decode(latents.to(vae.dtype, memory_format=FORMAT), return_dict=False)[0]


def sample_from_mode(vae: Any, mode: Tensor) -> Tensor:
    """The latent that the sampler would end at for an unchanged picture: `decode`'s inverse."""
    mean, std = channel_statistics(vae, mode)
    return (mode - mean) * vae.config.scaling_factor / std


def channel_statistics(vae: Any, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Mean and standard deviation of each latent channel where the config gives them, else 0 and 1."""
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or std is None:
        return 0.0, 1.0
    return torch.tensor(mean).to(like).view(1, -1, 1, 1), torch.tensor(std).to(like).view(1, -1, 1, 1)
