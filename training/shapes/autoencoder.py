"""The autoencoder of the shapes world: a small AutoencoderKL, 64×64×3 pixels to 16×16×4 latents.

torchrun --nproc_per_node 2 -m ip2p.training.shapes.autoencoder --folder runs/autoencoder
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from jsonargparse import auto_cli
from torch import Tensor, nn

from .loop import Draw, Plan, train
from .render import render
from .scenes import CELL, SIZE, Scene, random_scene

KL_WEIGHT = 2e-5
MAX_ERROR = 0.3  # largest deviation of the errors that the decoder learns to take, in scaled latents


def new_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder: a quarter of each side, four channels, as Stable Diffusion's has an eighth and four."""
    channels = (16, 32, 64)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
    )


def to_tensor(scenes: list[Scene]) -> Tensor:
    """Pictures of scenes as a model takes them: [N, 3, 64, 64] in [-1, 1]."""
    pixels = np.stack([render(scene) for scene in scenes])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(pixels: Tensor) -> np.ndarray:
    """What a decoder gives, [N, 3, 64, 64] in [-1, 1], as pictures [N, 64, 64, 3] uint8."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


class Reconstruction(nn.Module):
    """The loss of an autoencoder: absolute and squared error, and the posterior's divergence from a unit Gaussian."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Loss of pictures [N, 3, 64, 64]; `noise` [N, 4, 16, 16] draws the sample of the posterior."""
        moments = self.vae.encoder(pixels)
        mean, log_variance = self.vae.quant_conv(moments).chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        latents = mean + noise * (0.5 * log_variance).exp()
        error = self.vae.decoder(self.vae.post_quant_conv(latents)) - pixels
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        return error.abs().mean() + 2 * error.square().mean() + KL_WEIGHT * divergence.mean()


def faintness(pixels: Tensor) -> Tensor:
    """How much each quarter of pictures [N, 3, 64, 64] must count for its object to count as a contrasting one does.

    [N, 1, 64, 64]: the inverse of the colours' range within the quarter, an empty quarter's as a faint object's.
    """
    quarters = pixels.unfold(2, CELL, CELL).unfold(3, CELL, CELL)
    spread = (quarters.amax(dim=(-2, -1)) - quarters.amin(dim=(-2, -1))).mean(dim=1, keepdim=True)
    return nn.functional.interpolate(1 / spread.clamp(min=0.25), scale_factor=CELL)


class Restoration(nn.Module):
    """The loss of a decoder alone, of latents as a denoiser leaves them: a little off.

    A denoiser's error is what blunts corners and frays edges after decoding; a decoder that met such latents in
    training gives the picture they stand for. The encoder stays as it is, and so do all latents.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        for part in (vae.encoder, vae.quant_conv):
            part.requires_grad_(False)

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Loss of pictures [N, 3, 64, 64]; the error is `noise` [N, 4, 16, 16], of unit variance, times 0 to 0.3."""
        with torch.no_grad():
            mode = self.vae.encode(pixels).latent_dist.mode()
        amount = torch.linspace(0, MAX_ERROR, len(noise)).view(-1, 1, 1, 1)
        decoded = self.vae.decode(mode + amount * noise / self.vae.config.scaling_factor).sample
        error = decoded - pixels
        return (faintness(pixels) * (error.abs() + 2 * error.square())).mean()


def make_batch(draw: Draw) -> tuple[Tensor, Tensor]:
    """Random pictures, none with a held-out combination."""
    rng = random.Random(draw.seed)
    pixels = to_tensor([random_scene(rng) for _ in range(draw.count)])
    return pixels.to(memory_format=torch.channels_last), torch.randn(draw.count, 4, 16, 16, generator=draw.generator)


def make_pasted_batch(draw: Draw) -> tuple[Tensor, Tensor]:
    """The same, with a rectangle of another picture pasted into every other one.

    Of whole scenes alone the decoder learns which shape goes with which colour, and draws held-out combinations badly;
    edges and corners of any two colours teach it not to.
    """
    pixels, noise = make_batch(draw)
    rng = random.Random(draw.seed)
    for one, other in zip(range(0, draw.count, 2), range(1, draw.count, 2), strict=False):
        (left, right), (top, bottom) = (sorted(rng.sample(range(SIZE + 1), 2)) for _ in range(2))
        pixels[one, :, top:bottom, left:right] = pixels[other, :, top:bottom, left:right]
    return pixels, noise


@dataclass
class AutoencoderSettings:
    """Train the shapes world's autoencoder."""

    folder: Path = Path("runs/autoencoder")
    """Folder of the run; the result goes to its `vae`."""
    steps: int = 5000
    """Optimizer steps."""
    batch_size: int = 8
    """Pictures a step, over all processes."""
    decoder_steps: int = 20_000
    """Steps more of the decoder alone, on latents that are a little off."""
    learning_rate: float = 1.5e-3
    """Peak learning rate."""


@torch.no_grad()
def equalize(vae: AutoencoderKL, latents: Tensor) -> None:
    """Give every latent channel mean zero and the same spread, so that noise hides all of them alike.

    The change is folded into the two 1×1 convolutions round the latents: pictures come back as before. `latents`
    [N, 4, 16, 16] are modes of typical pictures; the scaling factor then makes their spread one.
    """
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    spread = std.mean()
    gain = spread / std
    inward, outward = vae.quant_conv, vae.post_quant_conv
    channels = len(gain)
    outward.bias += outward.weight[:, :, 0, 0] @ mean
    outward.weight /= gain[None, :, None, None]
    inward.weight[:channels] *= gain[:, None, None, None]
    inward.bias[:channels] = (inward.bias[:channels] - mean) * gain
    inward.bias[channels:] += 2 * gain.log()
    vae.register_to_config(scaling_factor=1 / float(spread))


def main(settings: AutoencoderSettings) -> None:
    """Train, equalize the latents, train the decoder further and save."""
    torch.manual_seed(0)
    vae = new_autoencoder().to(memory_format=torch.channels_last)
    plan = Plan(settings.folder, settings.steps, settings.batch_size, settings.learning_rate)
    train(plan, Reconstruction(vae), make_batch)
    rng = random.Random("scale")
    with torch.no_grad():
        latents = vae.encode(to_tensor([random_scene(rng) for _ in range(500)])).latent_dist.mean
    equalize(vae, latents)
    plan = Plan(settings.folder / "decoder", settings.decoder_steps, 2 * settings.batch_size, settings.learning_rate)
    train(plan, Restoration(vae), make_pasted_batch)
    if PartialState().is_main_process:
        vae.eval().save_pretrained(settings.folder / "vae")


if __name__ == "__main__":
    main(auto_cli(AutoencoderSettings, as_positional=False))
