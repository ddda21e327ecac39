"""Prompt-to-Prompt: while a target picture is drawn, the U-Net attends in it as it does in its source.

    with controlled(unet, control):
        control.plan = Plan(...)  # of the rows of the next batch
        unet(...)

Two methods make plans. InstructPix2Pix's own, `paper`: self-attention with the source's queries and keys and the
target's values, in both halves of the guidance and at all resolutions. Hertz et al.'s, `full` (arXiv 2208.01626): the
conditional half alone, self-attention up to a resolution, and cross-attention edited.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from .cross_attention import CrossEdit


@dataclass(frozen=True)
class Plan:
    """What attention does in one batch of the U-Net."""

    self_origin: Sequence[int]
    """For each row, the row whose queries and keys its self-attention takes: its own, or its source's."""
    self_tokens: int | None = None
    """Most tokens of a map that is taken so; None for all resolutions."""
    cross_origin: Sequence[int] = ()
    """For each row, the row whose cross-attention `edit` starts from; its own where that is left alone."""
    edit: CrossEdit | None = None
    """The edit of cross-attention, with its step."""
    step: int = 0
    map_tokens: int | None = None
    """Tokens of the cross-attention maps that are collected; None collects none."""


@dataclass
class Control:
    """Where a plan stands for the attention layers, and where they leave their maps."""

    plan: Plan | None = None
    maps: list[Tensor] = field(default_factory=list)
    """Of each layer with `map_tokens`: [rows, map tokens, text tokens], averaged over the heads."""


@contextmanager
def controlled(unet: UNet2DConditionModel, control: Control) -> Iterator[None]:
    """Let `control` steer the U-Net's attention; on leaving, its own processors are back."""
    before = dict(unet.attn_processors)
    unet.set_attn_processor(
        {name: ControlledAttention(control, is_self=name.endswith("attn1.processor")) for name in before}
    )
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class ControlledAttention:
    """diffusers' attention, but for what the control's plan says."""

    def __init__(self, control: Control, is_self: bool) -> None:
        self.control = control
        self.is_self = is_self

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Attention over [rows, tokens, channels], or [rows, channels, height, width]."""
        residual = hidden_states
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        if residual.ndim == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, context.shape[1], len(hidden_states))
            attention_mask = attention_mask.unflatten(0, (len(hidden_states), -1))

        plan = self.control.plan
        tokens = hidden_states.shape[1]
        if self.is_self and plan is not None and (plan.self_tokens is None or tokens <= plan.self_tokens):
            # Queries and keys of rows that none takes are not computed.
            rows, back = unique(plan.self_origin)
            query, key = attn.to_q(hidden_states[rows])[back], attn.to_k(context[rows])[back]
        else:
            query, key = attn.to_q(hidden_states), attn.to_k(context)
        query, key, value = (split(each, attn.heads) for each in (query, key, attn.to_v(context)))
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        if not self.is_self and plan is not None and self.needs_maps(plan, tokens):
            mixed = self.edited(plan, query, key, attn.scale, tokens).to(value.dtype) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=attn.scale)
        hidden_states = mixed.transpose(1, 2).flatten(2)
        for layer in attn.to_out:  # linear, dropout
            hidden_states = layer(hidden_states)
        if residual.ndim == 4:
            hidden_states = hidden_states.transpose(1, 2).reshape(residual.shape)
        if attn.residual_connection:
            hidden_states = hidden_states + residual
        return hidden_states / attn.rescale_output_factor

    @staticmethod
    def needs_maps(plan: Plan, tokens: int) -> bool:
        """Whether a cross-attention layer has to compute its maps."""
        return plan.edit is not None or tokens == plan.map_tokens

    def edited(self, plan: Plan, query: Tensor, key: Tensor, scale: float, tokens: int) -> Tensor:
        """The maps [rows, heads, tokens, text tokens] of a cross-attention layer, edited, and collected if wanted."""
        maps = (query.float() @ key.float().transpose(-1, -2) * scale).softmax(dim=-1)
        if plan.edit is not None:
            rows = [row for row, origin in enumerate(plan.cross_origin) if row != origin]
            origins = [plan.cross_origin[row] for row in rows]
            maps = maps.index_copy(
                0, torch.tensor(rows, device=maps.device), plan.edit(maps[origins], maps[rows], plan.step)
            )
        if tokens == plan.map_tokens:
            self.control.maps.append(maps.mean(dim=1))
        return maps


def split(x: Tensor, heads: int) -> Tensor:
    """[rows, tokens, channels] → [rows, heads, tokens, channels of a head]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def unique(origin: Sequence[int]) -> tuple[list[int], list[int]]:
    """The rows that are taken, each once, and for each row the place among them of the one it takes."""
    rows = sorted(set(origin))
    place = {row: at for at, row in enumerate(rows)}
    return rows, [place[row] for row in origin]
