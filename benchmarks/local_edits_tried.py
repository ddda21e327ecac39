"""What was tried to make edits more local and is not in the pipeline, each against the plain edit, on the shapes world.

    python benchmarks/local_edits_tried.py [--quick] [--each N] [--only attention candidates]

attention:  attention-gated guidance (ASG, arXiv 2609.37492): in the first fifth of the steps the instruction's scale is
            s_T·M, with M = σ(10·(ā − 0.5)) of its words' mean cross-attention ā in 0..1; M = 1 where the peak of the
            attention is below 1.5 times its mean. `gated` is the share of steps where it is not. Once more without that
candidates: early candidate selection (ELECT, arXiv 2504.13490): several seeds to a third of the steps, then the one
            whose x̂0 departs least from the picture where the instruction is not relevant, by the mean of
            (1 − M̄²)·|x̂0 − E(I)| with M̄ the candidate's mean |e(c_I,c_T) − e(c_I,∅)| in 0..1. `best` and `any` say what
            a perfect choice would give: the least change outside, and the share where any candidate is right

Columns as in local_edits.py; the last line has the figures.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.ip2p_pipeline.guidance import Guidance
from ip2p.ip2p_pipeline.latents import encode_mode, sample_from_mode
from ip2p.training.shapes.edits import KINDS, Edit
from ip2p.training.shapes.judging import BATCH, make_edits, trial_edits
from ip2p.training.shapes.render import render
from local_edits import Judged, judge
from torch import Tensor

SHARE = 1 / 3  # of the steps, after which a candidate is chosen
GATED = 0.2  # share of the steps with the attention's gate


def scaled(maps: Tensor) -> Tensor:
    """Maps [..., h, w] to 0..1, each by itself."""
    flat = maps.flatten(-2)
    low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)
    return ((flat - low) / (high - low)).view(maps.shape)


def gate(attention: Tensor, least_peak: float) -> Tensor:
    """M of ASG, from the words' attention [B,h,w]: [B,1,h,w]."""
    peaked = attention.amax((-2, -1)) / attention.mean((-2, -1)) >= least_peak
    opened = torch.sigmoid(10 * (scaled(attention) - 0.5))
    return torch.where(peaked[:, None, None], opened, 1.0)[:, None]


@contextmanager
def attention_gated(pipe: Any, texts: list[str], least_peak: float) -> Iterator[list[float]]:
    """Within, the pipeline edits so, with these instructions, a batch at a time. Gives the shares that are gated."""
    size, steps = pipe.unet.config.sample_size, pipe.recommended("num_inference_steps")
    read = pipe.tokenizer(texts, padding="max_length", max_length=pipe.tokenizer.model_max_length, return_tensors="pt")
    words = read.attention_mask.float()
    words[:, 0] = 0  # the start
    words[torch.arange(len(words)), words.sum(1).long()] = 0  # and the end
    maps: list[Tensor] = []
    gated_shares: list[float] = []
    at = 0

    def look(layer: Attention, inputs: tuple[Tensor], more: dict[str, Any]) -> None:
        hidden, text = inputs[0].chunk(3)[0], more["encoder_hidden_states"].chunk(3)[0]  # the full branch comes first
        query, key = (layer.head_to_batch_dim(x) for x in (layer.to_q(hidden), layer.to_k(text)))
        weights = layer.get_attention_scores(query, key).view(len(hidden), layer.heads, hidden.shape[1], -1).mean(1)
        used = words[at : at + len(hidden)]
        mean = (weights * used[:, None]).sum(-1) / used.sum(1)[:, None]
        side = int(hidden.shape[1] ** 0.5)
        maps.append(F.interpolate(mean.view(-1, 1, side, side), (size, size), mode="bilinear")[:, 0])

    combine = Guidance.combine

    def gated(self: Guidance, step: int, e: dict[str, Tensor], *rest: Any) -> Tensor:
        nonlocal at
        attention = torch.stack(maps).mean(0)
        maps.clear()
        at += len(attention) if step + 1 == steps else 0
        if step >= GATED * steps:
            return combine(self, step, e, *rest)
        s_text, s_image = (float(scale[0]) for scale in self.scales(step))
        opened = gate(attention, least_peak)
        gated_shares.append(float((opened < 1).flatten(1).any(1).float().mean()))
        guided = e["uncond"] + s_image * (e["image"] - e["uncond"])
        return guided + s_text * opened * (e["full"] - e["image"])

    layers = [m for m in pipe.unet.modules() if isinstance(m, Attention) and m.is_cross_attention]
    hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    with patch.object(Guidance, "combine", gated):
        yield gated_shares
    for hook in hooks:
        hook.remove()


def candidate(pipe: Any, edits: list[Edit], clean: Tensor, seed: int) -> tuple[list[np.ndarray], Tensor]:
    """The edits with another seed, and each one's inconsistency [edits] when a choice would be made."""
    chosen_at = round(SHARE * pipe.recommended("num_inference_steps"))
    relevance: list[Tensor] = []
    scores: list[Tensor] = []
    combine = Guidance.combine
    at = 0

    def recorded(self: Guidance, step: int, e: dict[str, Tensor], *rest: Any) -> Tensor:
        if step < chosen_at:
            relevance.append((e["full"] - e["image"]).abs().sum(1))
        return combine(self, step, e, *rest)

    def watch(done: int, total: int, x0: Any) -> None:
        nonlocal at
        if done == chosen_at:
            mask = scaled(torch.stack(relevance).mean(0))
            predicted = x0()
            scores.append(((1 - mask**2) * (predicted - clean[at : at + BATCH]).abs().sum(1)).mean((-2, -1)))
            relevance.clear()
            at += BATCH

    with patch.object(Guidance, "combine", recorded):
        pictures = make_edits(pipe, edits, watch=watch, first_seed=seed * len(edits))
    return pictures, torch.cat(scores)


def told(name: str, row: Judged, plain: Judged, samples: float, more: str = "") -> str:
    """A row of the table."""
    ratio = row.outside.mean() / plain.outside.mean()
    right = row.right.mean()
    print(f"| {name} | {right:.1%} | {row.outside.mean():.4f} | {ratio:.2f} | {samples:.0f} | {more} |", flush=True)
    return f"{name.replace(' ', '_')}: right={right:.3f} ratio={ratio:.2f}"


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=16, help="edits of each kind")
    parser.add_argument("--seeds", type=int, default=3, help="candidates of each edit")
    parser.add_argument("--only", nargs="+", choices=["attention", "candidates"], default=["attention", "candidates"])
    parser.add_argument("--quick", action="store_true", help="1 edit of each kind, 2 candidates")
    arguments = parser.parse_args()
    each, seeds = (1, 2) if arguments.quick else (arguments.each, arguments.seeds)
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    pipe.set_progress_bar_config(disable=True)
    edits = [edit for kind in KINDS for edit in trial_edits(kind, each)]
    before = torch.stack([torch.from_numpy(render(edit.source)) for edit in edits]).movedim(-1, 1) / 255
    clean = sample_from_mode(pipe.vae, encode_mode(pipe.vae, before))
    steps = pipe.recommended("num_inference_steps")

    print("| | right | outside | ratio | U-Net | |\n|---|---|---|---|---|---|")
    tries = [candidate(pipe, edits, clean, 0)]
    plain = judge(edits, tries[0][0])
    found = [told("plain", plain, plain, 3 * steps)]
    if "attention" in arguments.only:
        for name, least_peak in (("attention-gated guidance", 1.5), ("attention-gated, never bypassed", 0.0)):
            with attention_gated(pipe, [edit.edit_prompt for edit in edits], least_peak) as shares:
                row = judge(edits, make_edits(pipe, edits))
            found.append(told(name, row, plain, 3 * steps, f"gated {np.mean(shares):.0%}"))
    if "candidates" in arguments.only:
        tries += [candidate(pipe, edits, clean, seed) for seed in range(1, seeds)]
        rows = [judge(edits, pictures) for pictures, _ in tries]
        best = torch.stack([scores for _, scores in tries]).argmin(0).tolist()
        chosen = judge(edits, [tries[k][0][i] for i, k in enumerate(best)])
        right, outside = (np.stack([getattr(row, name) for row in rows]) for name in ("right", "outside"))
        more = f"any {right.any(0).mean():.1%}, best {outside.min(0).mean():.4f}"
        samples = 3 * (steps + (seeds - 1) * round(SHARE * steps))
        found.append(told(f"early selection of {seeds}", chosen, plain, samples, more))
    print(f"edits={len(edits)}", "; ".join(found))


if __name__ == "__main__":
    main()
