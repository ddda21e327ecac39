"""Refinements that make edits local or cheaper, on the shapes world, where right and wrong are known.

    python benchmarks/local_edits.py [--quick] [--each N] [--only NAME …] [--sheet PICTURE]

The shipped editor makes the same held-out edits with each refinement from the same noise, and the oracle says whether
the result shows what was asked for. `outside` is the mean absolute difference (of 1) to the picture before, of the
pixels that the edit must leave as they are (as in shapes_editor.py); `ratio` is that to the plain edit's. The first row
is what the autoencoder alone does to those pixels. `kept` is the share of those pixels that come back exactly. `U-Net`
counts samples through it, of an edit made alone. The last line has the figures; the exit status is 1 where the mask
leaves more than half of the error, or fewer edits are right by more than chance.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.ip2p_pipeline.guidance import Guidance
from ip2p.ip2p_pipeline.latents import decode, encode_mode, sample_from_mode
from ip2p.training.evaluate.intervals import mean_interval
from ip2p.training.shapes.edits import KINDS, Edit
from ip2p.training.shapes.judging import make_edits, trial_edits
from ip2p.training.shapes.oracle import change_outside, shows, unchanged
from ip2p.training.shapes.render import render
from PIL import Image
from sheets import sheet

PLAIN = "plain"
HALF = 0.5  # of the error outside, at most, with the relevance mask
REFINED: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "relevance mask": {"relevance_mask": True},
    "adaptive stop 0.98": {"adaptive_stop": 0.98},
    "relevance by e(c_I,∅)": {"relevance_mask": {"against": "image", "noise_level": 0.5, "threshold": 0.19}},
    "adaptive stop 0.95": {"adaptive_stop": 0.95},
    "adaptive stop 0.99": {"adaptive_stop": 0.99},
}


@dataclass
class Judged:
    """The edits of one row: each 1 or 0, [edits], and the pictures."""

    pictures: list[np.ndarray]
    right: np.ndarray
    outside: np.ndarray
    kept: np.ndarray
    samples: float = 0.0


def judge(edits: list[Edit], pictures: list[np.ndarray]) -> Judged:
    """What the oracle says of the pictures made."""
    right, outside, kept = [], [], []
    for edit, picture in zip(edits, pictures, strict=True):
        before, where = render(edit.source), unchanged(edit.source, edit.target)
        right.append(shows(picture, edit.target))
        outside.append(change_outside(before, picture, where))
        kept.append((before == picture).all(axis=-1)[where].mean())
    return Judged(pictures, np.array(right), np.array(outside), np.array(kept))


@torch.no_grad()
def round_trip(pipe: Any, edits: list[Edit]) -> list[np.ndarray]:
    """The pictures before, through the autoencoder and back."""
    before = torch.stack([torch.from_numpy(render(edit.source)) for edit in edits]).movedim(-1, 1) / 255
    after = decode(pipe.vae, sample_from_mode(pipe.vae, encode_mode(pipe.vae, before)))
    return list(((after / 2 + 0.5).clamp(0, 1) * 255).round().byte().movedim(1, -1).numpy())


def refined(pipe: Any, edits: list[Edit], settings: dict[str, Any]) -> Judged:
    """The edits made with these settings, and how many samples each would send through the U-Net alone.

    In a batch a branch is computed for all where one needs it; here each counts those that it needs itself.
    """
    sent: list[int] = []
    spared: list[int] = []
    combine = Guidance.combine

    def counting(self: Guidance, step: int, e: dict[str, torch.Tensor], *rest: Any) -> torch.Tensor:
        spared.extend(int((self.weights(step)[branch] == 0).sum()) for branch in e)
        return combine(self, step, e, *rest)

    hook = pipe.unet.register_forward_pre_hook(lambda _, inputs: sent.append(len(inputs[0])))
    with patch.object(Guidance, "combine", counting):
        result = judge(edits, make_edits(pipe, edits, **settings))
    hook.remove()
    result.samples = (sum(sent) - sum(spared)) / len(edits)
    return result


def contact_sheet(edits: list[Edit], rows: dict[str, Judged]) -> Image.Image:
    """One edit of each kind a column: before, asked for, each row's, and ten times how each differs from before."""
    of_kinds = [next(i for i, edit in enumerate(edits) if edit.kind == kind) for kind in KINDS]
    before = [render(edits[i].source) for i in of_kinds]
    bands = {"before": before, "asked for": [render(edits[i].target) for i in of_kinds]}
    for name, row in rows.items():
        made = [row.pictures[i] for i in of_kinds]
        bands[name] = made
        bands[f"{name}, change x10"] = [
            np.clip(10 * np.abs(a.astype(int) - b), 0, 255).astype(np.uint8) for a, b in zip(made, before, strict=True)
        ]
    return sheet([edits[i].edit_prompt for i in of_kinds], bands)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SHAPES_MODEL, help="folder of the model; the shipped one if not given")
    parser.add_argument("--each", type=int, default=64, help="edits of each kind")
    parser.add_argument("--only", nargs="+", choices=REFINED, help="rows to make besides plain; all if not given")
    parser.add_argument("--quick", action="store_true", help="2 edits of each kind, plain and the relevance mask")
    parser.add_argument("--sheet", help="write the first edit of each kind, plain and masked, to this picture")
    arguments = parser.parse_args()
    names = ["relevance mask"] if arguments.quick else arguments.only or list(REFINED)
    names = [PLAIN, *(name for name in names if name != PLAIN)]

    pipe = InstructPix2PixPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    edits = [edit for kind in KINDS for edit in trial_edits(kind, 2 if arguments.quick else arguments.each)]
    of_kind = {kind: np.array([edit.kind == kind for edit in edits]) for kind in KINDS}

    print(f"| | right | {' | '.join(KINDS)} | outside | ratio | kept | U-Net |")
    print("|---" * (len(KINDS) + 6) + "|")
    alone = judge(edits, round_trip(pipe, edits))
    rows: dict[str, Judged] = {}
    for name in names:
        row = rows[name] = refined(pipe, edits, REFINED[name])
        plain = rows[PLAIN].outside.mean()
        if name == PLAIN:
            share, kept = alone.outside.mean() / plain, alone.kept.mean()
            blank = " | ".join("" for _ in range(len(KINDS) + 1))
            print(f"| autoencoder alone | {blank} | {alone.outside.mean():.4f} | {share:.2f} | {kept:.1%} | |")
        by_kind = " | ".join(f"{row.right[of_kind[kind]].mean():.1%}" for kind in KINDS)
        print(
            f"| {name} | {row.right.mean():.1%} | {by_kind} | {row.outside.mean():.4f} "
            f"| {row.outside.mean() / plain:.2f} | {row.kept.mean():.1%} | {row.samples:.1f} |",
            flush=True,
        )
    if arguments.sheet:
        shown = {name: rows[name] for name in (PLAIN, "relevance mask") if name in rows}
        contact_sheet(edits, shown).save(arguments.sheet)
    found = [
        f"{name.replace(' ', '_')}: right={row.right.mean():.3f} ratio={row.outside.mean() / plain:.2f} "
        f"unet={row.samples:.1f}"
        for name, row in rows.items()
    ]
    print(f"edits={len(edits)} autoencoder_share={alone.outside.mean() / plain:.2f}", "; ".join(found))
    if "relevance mask" in rows and not arguments.quick:
        masked = rows["relevance mask"]
        right = mean_interval(masked.right.astype(float) - rows[PLAIN].right).high >= 0
        sys.exit(0 if right and masked.outside.mean() / plain <= HALF else 1)


if __name__ == "__main__":
    main()
