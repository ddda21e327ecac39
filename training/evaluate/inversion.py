"""Prompt-to-Prompt on a picture that is there: it is inverted to noise, and drawn again under both captions.

DDIM inversion (Song et al. 2020, arXiv 2010.02502; Dhariwal and Nichol 2021) goes the sampler's way backwards. With
guidance the way forth differs from it; null-text inversion (Mokady et al. 2022, arXiv 2211.09794) fits the null text of
each step so that it does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..pairs.checkpoint import Base, Texts, load_base
from ..pairs.cross_attention import CrossEdit, cross_edit
from ..pairs.prompt_to_prompt import Control, Plan, controlled
from ..pairs.samplers import denoise, euler_step, schedule
from ..shapes.models import SHAPES_BASE
from .methods import Setting, checkpoint_name, of_size
from .samples import Sample
from .sdedit import fitted

NULL, SOURCE, TARGET = 0, 1, 2  # the texts


@dataclass
class InvertedP2P:
    """Prompt-to-Prompt after inversion. Its dial is the share of steps whose self-attention is the picture's own.

    model:      SD 1.x, 2.x or SDXL, as `ip2p dataset pairs` takes it
    inversion:  by DDIM alone, or with the null text fitted, in so many steps of Adam for each step of the sampler
    resolution: longest side at which it works; None = as the model was trained
    """

    model: str
    inversion: Literal["ddim", "null_text"] = "null_text"
    steps: int = 50
    guidance_scale: float = 7.5
    cross_replace_steps: float = 0.8
    self_resolution: int = 32
    inner_steps: int = 10
    name: str = ""
    dial: str = "self_replace_steps"
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    resolution: int | None = None
    captions: tuple[str, ...] = ("original_prompt", "edited_prompt")
    by_chance: bool = False
    one_by_one: bool = True
    loaded: Base | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.name = (
            self.name or {"ddim": "P2P, DDIM inversion", "null_text": "P2P, null-text inversion"}[self.inversion]
        )
        if self.inversion == "null_text":
            self.dtype = torch.float32  # in half precision the null text's gradients vanish

    def identity(self) -> dict[str, Any]:
        """The checkpoint, and how it is used."""
        names = ("inversion", "steps", "guidance_scale", "cross_replace_steps", "self_resolution", "inner_steps")
        told = {name: getattr(self, name) for name in (*names, "resolution")}
        return {"model": checkpoint_name(self.model, {"shapes": SHAPES_BASE}), "dtype": str(self.dtype), **told}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One after another; there is no chance in it."""
        edited = []
        side = self.resolution or self.base().resolution
        for sample, picture in zip(samples, pictures, strict=True):
            _, made = self.redrawn(
                fitted(picture, side), sample.original_prompt, sample.edited_prompt, float(setting[self.dial])
            )
            edited.append(of_size(made, picture.size))
        return edited

    def free(self) -> None:
        """Let go of the checkpoint."""
        self.loaded = None

    def base(self) -> Base:
        """The checkpoint, loaded when it is first wanted."""
        if self.loaded is None:
            self.loaded = load_base(self.model, device=self.device, dtype=self.dtype)
        return self.loaded

    def redrawn(
        self, picture: Image.Image, original_prompt: str, edited_prompt: str, self_replace_steps: float
    ) -> tuple[Image.Image, Image.Image]:
        """The picture drawn again under its caption, and under the other one."""
        base = self.base()
        sigmas, timesteps = schedule(base.alphas_cumprod, self.steps, "uniform")
        sampler = Sampler(base, sigmas.double(), timesteps, max(picture.size))
        texts = base.encode(["", original_prompt, edited_prompt])
        edit = cross_edit(base.tokenizer, original_prompt, edited_prompt, self.steps, self.cross_replace_steps)
        way = sampler.invert(encode(base, picture), texts)
        nulls = [texts.embeds[:1]] * self.steps
        if self.inversion == "null_text":
            nulls = sampler.fit_nulls(way, texts, self.guidance_scale, self.inner_steps)
        drawn = self.draw(sampler, way[0], texts, nulls, edit.to(base.device), self_replace_steps)
        pixels = ((base.decode(drawn.float()).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        source, target = (Image.fromarray(each) for each in pixels.cpu().numpy())
        return source, target

    @torch.no_grad()
    def draw(
        self, sampler: "Sampler", noise: Tensor, texts: Texts, nulls: list[Tensor], edit: CrossEdit, self_replace: float
    ) -> Tensor:
        """Latents [2, 4, h, w]: of the source and, following its attention, of the target."""
        x = noise.repeat(2, 1, 1, 1)
        control = Control()
        with controlled(sampler.base.unet, control):
            for step, (sigma, next_sigma) in enumerate(pairwise(sampler.sigmas)):
                follows = step < self_replace * self.steps
                control.plan = Plan(
                    self_origin=[0, 1, 2, 2 if follows else 3],
                    self_tokens=self.self_resolution**2,
                    cross_origin=[0, 1, 2, 2],
                    edit=edit if step < self.cross_replace_steps * self.steps else None,
                    step=step,
                )
                embeds = torch.cat([nulls[step], nulls[step], texts.embeds[SOURCE : TARGET + 1]])
                out = sampler.unet(x.repeat(2, 1, 1, 1), step, embeds, texts, [NULL, NULL, SOURCE, TARGET])
                null, told = out.chunk(2)
                guided = null + self.guidance_scale * (told - null)
                x = euler_step(x, denoise(x, guided, sigma, sampler.base.prediction_type), sigma, next_sigma, None)
        return x


class Sampler:
    """A checkpoint's way between noise and picture: x = x₀ + sigma·noise, in float64 but for the U-Net."""

    def __init__(self, base: Base, sigmas: Tensor, timesteps: Tensor, resolution: int) -> None:
        self.base, self.timesteps, self.resolution = base, timesteps, resolution
        self.sigmas = sigmas.to(base.device)

    def unet(
        self, x: Tensor, step: int, embeds: Tensor, texts: Texts, which: list[int], sigma: Tensor | None = None
    ) -> Tensor:
        """The U-Net's output at a step for x at its noise level, or another one. `which` texts have SDXL's pooled."""
        at = self.sigmas[step] if sigma is None else sigma
        unet = self.base.unet
        return unet(
            (x / (at**2 + 1).sqrt()).to(unet.dtype),
            self.timesteps[step].to(x.device),
            embeds.to(unet.dtype),
            added_cond_kwargs=self.base.added(texts, which, self.resolution),
        ).sample.double()

    @torch.no_grad()
    def invert(self, latents: Tensor, texts: Texts) -> list[Tensor]:
        """x at each of the sampler's noise levels, the highest first, on the way back from a picture's latents."""
        way = [latents.double()]
        for step in reversed(range(len(self.timesteps))):
            high, low = self.sigmas[step], self.sigmas[step + 1]
            x = way[0]
            out = self.unet(x, step, texts.embeds[SOURCE:TARGET], texts, [SOURCE], sigma=low)
            noise = out
            if self.base.prediction_type == "v_prediction":
                noise = (out + high * x / (low**2 + 1).sqrt()) / (high**2 + 1).sqrt()
            way.insert(0, x + (high - low) * noise)
        return way

    def fit_nulls(self, way: list[Tensor], texts: Texts, guidance_scale: float, inner_steps: int) -> list[Tensor]:
        """The null text [1, T, d] of each step with which guidance goes the way forth as the inversion went back."""
        x, null, nulls = way[0], texts.embeds[:1].float(), []
        for step, next_sigma in enumerate(self.sigmas[1:]):
            with torch.no_grad():
                told = self.unet(x, step, texts.embeds[SOURCE:TARGET], texts, [SOURCE])

            def moved(null: Tensor, x: Tensor = x, step: int = step, told: Tensor = told) -> Tensor:
                out = self.unet(x, step, null, texts, [NULL])
                guided = out + guidance_scale * (told - out)
                clean = denoise(x, guided, self.sigmas[step], self.base.prediction_type)
                return euler_step(x, clean, self.sigmas[step], self.sigmas[step + 1], None)

            # On the scale of the latents as the U-Net sees them, whatever the noise level.
            scale = (next_sigma**2 + 1).sqrt()
            null = null.detach().clone().requires_grad_(True)
            rate = 1e-2 * (1 - step / len(self.timesteps) / 2)
            optimizer = torch.optim.Adam([null], lr=rate)
            for _ in range(inner_steps):
                with torch.enable_grad():
                    loss = F.mse_loss(moved(null) / scale, way[step + 1] / scale)
                    optimizer.zero_grad(set_to_none=True)
                    [null.grad] = torch.autograd.grad(loss, [null])
                optimizer.step()
                if float(loss.detach()) < 1e-5 * (1 + 2 * step / len(self.timesteps)):
                    break
            null = null.detach()
            nulls.append(null)
            with torch.no_grad():
                x = moved(null)
        return nulls


@torch.no_grad()
def encode(base: Base, picture: Image.Image) -> Tensor:
    """The scaled latents [1, 4, h, w] of a picture."""
    vae = base.autoencoder()
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(base.device, vae.dtype) / 127.5 - 1
    return vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
