"""Invented runs of pairs: triplets of the shapes world, their pictures, and parts as a maker gives them."""

import io
import random
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from ip2p.training.pairs.candidates import PairTriplet
from ip2p.training.pairs.features import FAILED, KEPT, PART
from ip2p.training.pairs.store import Store
from ip2p.training.shapes.edits import Edit, random_edit, undo
from ip2p.training.shapes.render import render
from PIL import Image

SETTINGS = {"method": "paper", "model": "tiny", "steps": 4, "p": [0.1, 0.9]}
THRESHOLDS = {"min_caption_similarity": 0.2, "min_image_similarity": 0.75, "min_directional_similarity": 0.2}


@cache
def edits(count: int, seed: int = 0) -> list[Edit]:
    rng = random.Random(seed)
    return [random_edit(rng) for _ in range(count)]


def triplet(edit: Edit) -> PairTriplet:
    back = undo(edit.kind, edit.source, edit.target, random.Random(0))
    return PairTriplet(edit.original_prompt, edit.edit_prompt, edit.edited_prompt, edit.kind, back)


def triplets(count: int, seed: int = 0) -> list[PairTriplet]:
    return [triplet(edit) for edit in edits(count, seed)]


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def picture(seed: int, width: int = 32, height: int = 32, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return encoded(np.kron(pixels, np.ones((8, 8, 1), np.uint8)), kind)


@cache
def part(place: int, edit: Edit, candidates: int = 6, kept: int | None = None, side: int = 64) -> pa.Table:
    """The part of a triplet, with some winners."""
    named = triplet(edit)
    rng = random.Random(named.id)
    kept = rng.randint(0, 3) if kept is None else kept
    rows = []
    for number in range(candidates):
        keep = number % 2 == 1 and number // 2 < kept
        direction = rng.gauss(0.27 if keep else 0.12, 0.05)
        row = {
            "triplet": place,
            "triplet_id": named.id,
            "number": number,
            "seed": rng.getrandbits(48),
            "p": (number + rng.random()) / candidates * 0.8 + 0.1,
            "guidance_scale": rng.uniform(7.5, 15),
            "original_caption_similarity": rng.gauss(0.27, 0.03),
            "edited_caption_similarity": rng.gauss(0.26, 0.03),
            "image_similarity": min(rng.gauss(0.88 if keep else 0.74, 0.08), 0.99),
            "directional_similarity": max(direction, 0.2) if keep else direction,
            "verdict": KEPT if keep else rng.choice(["direction"] * 5 + ["image"] * 3 + ["same_seed", "beyond_best"]),
        }
        if keep:
            before, after = (enlarged(render(scene), side) for scene in (edit.source, edit.target))
            row |= {"original_image": encoded(before), "edited_image": encoded(after)}
            if number == 1:
                row["mask"] = encoded((before != after).any(-1).astype(np.uint8) * 255)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=PART)


def enlarged(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def failed(place: int, edit: Edit, problem: str = "A picture is not finite.") -> pa.Table:
    row = {"triplet": place, "triplet_id": triplet(edit).id, "number": -1, "verdict": FAILED, "problem": problem}
    return pa.Table.from_pylist([row], schema=PART)


def make_run(folder: Path, count: int, shard_triplets: int = 4, **settings: object) -> Store:
    """A finished run."""
    drawn = edits(count)
    store = Store(folder, [triplet(edit) for edit in drawn], SETTINGS | settings, shard_triplets)
    for place in store.pending():
        store.add(place, part(place, drawn[place]))
    store.finish()
    return store
