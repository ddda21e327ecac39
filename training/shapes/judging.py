"""Edits that an editor of the shapes world is judged by, and what the oracle says of them."""

import random
from typing import Any

import numpy as np
import torch
from PIL import Image

from .edits import KINDS, Edit, random_edit
from .oracle import shows
from .render import render

BATCH = 64


def trial_edits(kind: str, count: int, held_out: bool = True) -> list[Edit]:
    """The same edits of one kind at every call, with combinations that no training picture shows or without."""
    return [random_edit(random.Random(f"test/{kind}/{index}"), kind, held_out) for index in range(count)]


def make_edits(pipe: Any, edits: list[Edit], first_seed: int = 0, **settings: Any) -> list[np.ndarray]:
    """The edited pictures [64, 64, 3] uint8, each with a seed of its own; `settings` are of the pipeline's call."""
    pictures: list[np.ndarray] = []
    for at in range(0, len(edits), BATCH):
        batch = edits[at : at + BATCH]
        edited = pipe(
            [edit.edit_prompt for edit in batch],
            [Image.fromarray(render(edit.source)) for edit in batch],
            generator=[torch.Generator().manual_seed(first_seed + at + index) for index in range(len(batch))],
            return_dict=False,
            **settings,
        )[0]
        pictures += [np.array(picture) for picture in edited]
    return pictures


def accuracy(pipe: Any, each: int, **settings: Any) -> dict[str, float]:
    """The share of held-out edits of each kind that are right."""
    right = {}
    for kind in KINDS:
        edits = trial_edits(kind, each)
        pictures = make_edits(pipe, edits, **settings)
        right[kind] = float(np.mean([shows(*each) for each in zip(pictures, (e.target for e in edits), strict=True)]))
    return right
