"""Renders the candidates of a triplet: all its groups in step, branches as they leave the trunk, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .candidates import Rendered, SeedGroup
from .checkpoint import Base, Texts
from .cross_attention import CrossEdit, cross_edit
from .local_blend import START, blend_masks, map_side
from .prompt_to_prompt import Control, Plan, controlled
from .render_settings import RenderSettings
from .samplers import denoise, euler_step, schedule
from .trajectories import Branches, Row, branches, edits_words, packed, units


class RenderError(ValueError):
    """A picture that can't be used."""


@dataclass
class Group:
    """A group on its way."""

    drawn: SeedGroup
    branches: Branches
    generator: torch.Generator
    pictures: Tensor
    """[1 + targets, 4, h, w]: the source, and the targets; those still on the trunk are copied when they leave it."""
    maps: Tensor | None = None
    """Cross-attention maps summed over layers and steps, [1 + targets, tokens, T], for LocalBlend."""
    masks: Tensor | None = None
    """[1 + targets, 1, h, w]: where the targets may differ from the source."""


class Renderer:
    """Draws pairs with a checkpoint by one method."""

    def __init__(self, base: Base, settings: RenderSettings) -> None:
        self.base = base
        self.settings = settings
        self.evaluations = 0
        """Samples that the U-Net has evaluated so far."""
        self.resolution = settings.resolution or base.resolution
        self.side = self.resolution // base.pipe.vae_scale_factor
        self.dtype = base.unet.dtype  # which diffusers looks for among all parameters at each question
        self.sigmas, self.timesteps = schedule(base.alphas_cumprod, settings.steps, settings.sigmas)
        self.map_side = map_side(base.unet, self.side)

    def render(self, original_prompt: str, edited_prompt: str, groups: Sequence[SeedGroup]) -> list[Rendered]:
        """The pictures of each group. Raises RenderError where one is not finite."""
        return [self.finish(group) for group in self.draw(original_prompt, edited_prompt, groups)]

    @torch.no_grad()
    def draw(self, original_prompt: str, edited_prompt: str, groups: Sequence[SeedGroup]) -> list[Group]:
        """The groups at the end of their way, their pictures still latents."""
        settings = self.settings
        texts = self.base.encode(["", original_prompt, edited_prompt])
        edit = None
        if settings.method == "full":
            edit = cross_edit(
                self.base.tokenizer,
                original_prompt,
                edited_prompt,
                settings.steps,
                settings.cross_replace_steps,
                changed_word_weight=settings.changed_word_weight,
            ).to(self.base.device)
        under_way = [self.start(group) for group in groups]
        control = Control()
        with controlled(self.base.unet, control):
            for step, (sigma, next_sigma) in enumerate(pairwise(self.sigmas)):
                self.fork(under_way, step)
                wanted = [
                    unit
                    for number, group in enumerate(under_way)
                    for unit in units(number, group.branches, step, settings)
                ]
                outputs: dict[Row, Tensor] = {}
                for rows in packed(wanted, settings.batch_size):
                    outputs |= self.evaluate(under_way, rows, texts, edit, step, control)
                for number, group in enumerate(under_way):
                    self.advance(number, group, outputs, sigma, next_sigma)
                    if settings.local_blend and edit is not None and step >= START * settings.steps:
                        self.blend(group, edit, step)
        return under_way

    def start(self, drawn: SeedGroup) -> Group:
        """A group before its first step: every picture begins with the same noise."""
        group = branches(drawn, self.settings)
        generator = torch.Generator().manual_seed(drawn.seed)
        noise = torch.randn(4, self.side, self.side, generator=generator)
        # Of a picture at the highest noise level: x₀ is lost in it.
        start = (noise * self.sigmas[0]).to(self.base.device)
        return Group(drawn, group, generator, start.repeat(1 + len(group.ends), 1, 1, 1))

    def fork(self, under_way: Sequence[Group], step: int) -> None:
        """Give the targets that leave the trunk at this step what the trunk has come to."""
        for group in under_way:
            leaving, trunk = group.branches.leaving(step), group.branches.trunk
            group.pictures[leaving] = group.pictures[trunk].clone()
            if group.maps is not None:
                group.maps[leaving] = group.maps[trunk].clone()

    def evaluate(
        self,
        under_way: Sequence[Group],
        rows: list[Row],
        texts: Texts,
        edit: CrossEdit | None,
        step: int,
        control: Control,
    ) -> dict[Row, Tensor]:
        """The U-Net's outputs for a batch of rows."""
        unet, device = self.base.unet, self.base.device
        control.plan = self.plan(under_way, rows, edit, step)
        control.maps.clear()
        which = [(1 if row.picture == 0 else 2) if row.conditional else 0 for row in rows]
        x = torch.stack([under_way[row.group].pictures[row.picture] for row in rows])
        sigma = self.sigmas[step]
        outputs = unet(
            (x / (sigma**2 + 1).sqrt()).to(self.dtype),
            self.timesteps[step].to(device),
            texts.embeds[which].to(self.dtype),
            added_cond_kwargs=self.base.added(texts, which, self.resolution),
        ).sample.float()
        self.evaluations += len(rows)
        if control.maps:
            self.collect(under_way, rows, torch.stack(control.maps).sum(dim=0))
        return dict(zip(rows, outputs, strict=True))

    def plan(self, under_way: Sequence[Group], rows: list[Row], edit: CrossEdit | None, step: int) -> Plan:
        """What attention does in a batch of rows."""
        settings = self.settings
        full = settings.method == "full"
        place = {row: at for at, row in enumerate(rows)}
        # A row's source's row; where that is not in the batch, nothing is taken from it.
        source = [place.get(row._replace(picture=0), at) for row, at in place.items()]

        def is_injected(row: Row) -> bool:
            injected = row.picture in under_way[row.group].branches.injected(step)
            return injected and (row.conditional or not full)

        return Plan(
            self_origin=[source[at] if is_injected(row) else at for row, at in place.items()],
            self_tokens=settings.self_resolution**2 if full else None,
            cross_origin=[source[at] if row.conditional else at for row, at in place.items()],
            edit=edit if edits_words(step, settings) else None,
            step=step,
            map_tokens=self.map_side**2 if full and settings.local_blend else None,
        )

    @staticmethod
    def collect(under_way: Sequence[Group], rows: list[Row], maps: Tensor) -> None:
        """Add a batch's cross-attention maps to their groups' sums."""
        for row, each in zip(rows, maps, strict=True):
            group = under_way[row.group]
            if row.conditional:
                if group.maps is None:
                    group.maps = each.new_zeros(len(group.pictures), *each.shape)
                group.maps[row.picture] += each

    def advance(self, number: int, group: Group, outputs: dict[Row, Tensor], sigma: Tensor, next_sigma: Tensor) -> None:
        """Take a group to the next noise level, all its pictures with the same noise."""
        there = sorted({row.picture for row in outputs if row.group == number})
        null = torch.stack([outputs[Row(number, picture, False)] for picture in there])
        told = torch.stack([outputs[Row(number, picture, True)] for picture in there])
        guided = null + group.drawn.guidance_scale * (told - null)
        x = group.pictures[there]
        noise = None
        if self.settings.sampler == "euler_ancestral":
            noise = torch.randn(x.shape[1:], generator=group.generator).to(x.device)
        denoised = denoise(x, guided, sigma, self.base.prediction_type)
        group.pictures[there] = euler_step(x, denoised, sigma, next_sigma, noise)

    def blend(self, group: Group, edit: CrossEdit, step: int) -> None:
        """Put the source back wherever the changed words are not attended to."""
        if group.maps is None:
            return
        targets = group.branches.targets(step)
        masks = blend_masks(group.maps[0], group.maps[targets], edit.changed, self.side)
        source = group.pictures[:1]
        group.pictures[targets] = source + masks * (group.pictures[targets] - source)
        if group.masks is None:
            group.masks = torch.ones_like(group.pictures[:, :1])
        group.masks[targets] = masks

    @torch.no_grad()
    def finish(self, group: Group) -> Rendered:
        """The pictures of a group, each decoded once."""
        pictures: list[np.ndarray] = []
        for latents in group.pictures.split(max(1, self.settings.batch_size // 4)):
            decoded = self.base.decode(latents)
            if not torch.isfinite(decoded).all():
                raise RenderError(
                    "A picture is not finite: with SDXL in float16 its autoencoder may need --vae "
                    "madebyollin/sdxl-vae-fp16-fix, or use --dtype bfloat16."
                )
            pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte()
            pictures += list(pixels.permute(0, 2, 3, 1).cpu().numpy())
        masks: list[np.ndarray | None] = [None] * len(pictures)
        if group.masks is not None:
            grown = F.interpolate(group.masks, size=(self.resolution, self.resolution))
            masks = list((grown[:, 0] * 255).byte().cpu().numpy())
        targets = group.branches.target_of
        return Rendered(pictures[0], [pictures[j] for j in targets], [masks[j] for j in targets])
