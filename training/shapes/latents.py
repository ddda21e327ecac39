"""Latents of many pictures, encoded once and read by every step of a training."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from .autoencoder import to_tensor
from .scenes import Scene

SHARD = 4096  # scenes a file


def latent_cache(
    folder: Path, vae: AutoencoderKL, scenes: Callable[[int], Sequence[Scene]], count: int
) -> dict[str, Tensor]:
    """Posterior mean and deviation, both unscaled, of `count` rows of scenes, encoded shard by shard.

    `scenes(row)` gives a row's scenes (one, or source and target). Shards are shared out among the processes; those of
    the same rows and encoder that are already in `folder` are kept. Returns `mean` and `std`, each
    [count, scenes a row, 4, 16, 16] float16.
    """
    state = PartialState(cpu=True)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = fingerprint(vae)
    parts = [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
    paths = [folder / f"{part.start:07d}-{part.stop:07d}-{encoder}.safetensors" for part in parts]
    for index in tqdm(range(len(paths)), desc="latents", disable=not state.is_main_process):
        if index % state.num_processes != state.process_index or paths[index].exists():
            continue
        rows = [scenes(row) for row in parts[index]]
        means, stds = [], []
        with torch.no_grad():
            for at in range(0, len(rows), 64):
                pixels = to_tensor([scene for row in rows[at : at + 64] for scene in row])
                posterior = vae.encode(pixels.to(memory_format=torch.channels_last)).latent_dist
                means.append(posterior.mean.half().contiguous())
                stds.append(posterior.std.half().contiguous())
        each = len(rows[0])
        shard = {"mean": torch.cat(means).unflatten(0, (-1, each)), "std": torch.cat(stds).unflatten(0, (-1, each))}
        save_file(shard, paths[index].with_suffix(".partial"))
        paths[index].with_suffix(".partial").replace(paths[index])
    state.wait_for_everyone()
    shards = [load_file(path) for path in paths]
    return {name: torch.cat([shard[name] for shard in shards]) for name in ("mean", "std")}


def fingerprint(vae: AutoencoderKL) -> str:
    """A name for what encodes: eight hexadecimal digits of its weights' hash."""
    digest = hashlib.sha256()
    for part in (vae.encoder, vae.quant_conv):
        for tensor in part.state_dict().values():
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
