"""Runs of the image stage on tiny random models, each triplet a fraction of a second."""

from pathlib import Path
from typing import Any

from ip2p.training.pairs.candidates import PairTriplet
from ip2p.training.pairs.features import PICTURES
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.pairs.run_folder import stored_parts

COLORS = ("red", "blue", "green", "yellow", "purple", "orange", "black", "white")
TRIPLETS = [
    PairTriplet(f"a large {color} circle on a gray background", "make it a square", f"a {color} square on gray", kind)
    for color, kind in zip(COLORS, ("shape", "", "shape", "size") * 2, strict=True)
]


def tiny_settings(models: dict[str, str], **settings: Any) -> MakerSettings:
    """Two steps, three seeds of two candidates, and thresholds that let all pass."""
    everything = dict.fromkeys(("min_caption_similarity", "min_image_similarity", "min_directional_similarity"), -1.0)
    few = {"steps": 2, "seeds": 3, "per_seed": 2, "p": (0.0, 1.0), "device": "cpu", "max_per_triplet": 2}
    return MakerSettings(**{**models, **everything, **few, **settings})


def rows(folder: Path) -> list[dict[str, Any]]:
    """All candidates of a run, in the order of the triplets, with the pictures of those that are kept."""
    parts = sorted(stored_parts(folder), key=lambda each: each[0])
    return [row for _, part in parts for row in part.to_pylist()]


def without_pictures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in PICTURES} for row in rows]


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run but its lock, by name."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}
