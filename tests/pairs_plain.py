"""Prompt-to-Prompt once more, as plainly as it can be said: one pair at a time, explicit attention maps, Euler's steps.

Written from the papers and from what InstructPix2Pix's and Prompt-to-Prompt's own code does, apart from the package's.
"""

from typing import Any

import torch
from torch import Tensor


class PlainAttention:
    """All four rows, [null source, null target, told source, told target], with explicit maps."""

    def __init__(self, state: "PlainState", is_self: bool) -> None:
        self.state = state
        self.is_self = is_self

    def __call__(self, attn: Any, hidden: Tensor, encoder_hidden_states: Any = None, *_: Any, **__: Any) -> Tensor:
        context = hidden if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(x) for x in (attn.to_q(hidden), attn.to_k(context), attn.to_v(context)))
        heads = attn.heads
        maps = torch.softmax(attn.scale * q @ k.transpose(1, 2), dim=-1)
        maps = maps.view(4, heads, *maps.shape[1:]).clone()
        state = self.state
        if self.is_self and state.inject_self:
            if not state.full:
                maps[1] = maps[0]
                maps[3] = maps[2]
            elif maps.shape[2] <= state.self_resolution**2:
                maps[3] = maps[2]
        if not self.is_self and state.cross is not None:
            maps[3] = state.cross(maps[2], maps[3])
        if not self.is_self and maps.shape[2] == state.map_tokens:
            for picture in (0, 1):
                state.seen[picture] = state.seen[picture] + maps[2 + picture].mean(dim=0)
        return attn.to_out[0](attn.batch_to_head_dim(maps.flatten(0, 1) @ v))


class PlainState:
    """What the plain attention is to do at this step."""

    full = False
    inject_self = False
    self_resolution = 32
    cross: Any = None
    map_tokens = 0

    def __init__(self) -> None:
        self.seen: list[Any] = [0.0, 0.0]


def plain_sigmas(alphas: Tensor, steps: int) -> tuple[list[float], list[float]]:
    """Uniform in timestep, as k-diffusion has it."""
    known = ((1 - alphas) / alphas) ** 0.5
    times = [999 - 999 * i / (steps - 1) for i in range(steps)]
    sigmas = []
    for t in times:
        low = min(int(t), 998)
        sigmas.append(float(torch.exp(known[low].log() * (1 - (t - low)) + known[low + 1].log() * (t - low))))
    return [*sigmas, 0.0], times


def plain_pair(
    pipe: Any,
    texts: tuple[str, str],
    seed: int,
    guidance_scale: float,
    p: float,
    steps: int,
    ancestral: bool,
    state: PlainState,
    per_step: Any = None,
    after: Any = None,
) -> Tensor:
    """Latents [2, 4, h, w] of source and target."""
    unet = pipe.unet
    processors = dict(unet.attn_processors)
    unet.set_attn_processor({n: PlainAttention(state, "attn1" in n) for n in processors})
    told, null = pipe.encode_prompt(list(texts), "cpu", 1, True, ["", ""])
    sigmas, times = plain_sigmas(pipe.scheduler.alphas_cumprod, steps)
    generator = torch.Generator().manual_seed(seed)
    side = unet.config.sample_size
    x = torch.randn(1, 4, side, side, generator=generator).repeat(2, 1, 1, 1) * sigmas[0]
    with torch.no_grad():
        for i in range(steps):
            sigma, down_to = sigmas[i], sigmas[i + 1]
            state.inject_self = p > i / (steps - 1)
            if per_step is not None:
                per_step(i)
            scaled = x / (sigma**2 + 1) ** 0.5
            out = unet(torch.cat([scaled, scaled]), torch.tensor(times[i]), torch.cat([null, told])).sample
            noise_predicted = out[:2] + guidance_scale * (out[2:] - out[:2])
            up = min(down_to, (down_to**2 * (sigma**2 - down_to**2) / sigma**2) ** 0.5) if ancestral else 0.0
            down = (down_to**2 - up**2) ** 0.5
            x = x + noise_predicted * (down - sigma)
            if ancestral:
                x = x + torch.randn(1, 4, side, side, generator=generator) * up
            if after is not None:
                x = after(i, x)
    unet.set_attn_processor(processors)
    return x
