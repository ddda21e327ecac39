"""The layout of InstructPix2Pix's own code and of the data that its authors released.

seeds.json                 [[folder, [seed, …]], …]; where it is missing, every folder with a prompt.json is taken
0000001/prompt.json        {"caption" or "input", "edit", "output"}
0000001/123_0.jpg, 123_1.jpg
0000001/metadata.jsonl     seed, p2p_threshold, cfg_scale and CLIP scores; the release has none
"""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .candidates import PairTriplet, digest
from .import_files import Folder, load_list, number, whole
from .importers import text
from .pictures import SkipError

Unit = tuple[str, list[str]]
SCORES = {
    "original_caption_similarity": "clip_sim_0",
    "edited_caption_similarity": "clip_sim_1",
    "image_similarity": "clip_sim_image",
    "directional_similarity": "clip_sim_dir",
    "guidance_scale": "cfg_scale",
}


class OriginalLayout:
    """Each triplet is a folder, and each of its pairs a seed."""

    source = "original"

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ValueError(f"There is no folder {path}.")
        self.folder = Folder(path)
        listing = path / "seeds.json"
        self.entries = listed(listing) if listing.is_file() else found(path)
        if not self.entries:
            raise ValueError(f"{path} has no folders with a prompt.json, as the original layout has them.")

    def identity(self) -> dict[str, Any]:
        """Which folders and seeds."""
        running = ""
        for name, seeds in self.entries:
            running = digest(json.dumps([running, name, seeds]))
        return {"layout": "original", "from": str(self.folder.path), "rows": running}

    def count(self) -> int:
        """Triplets."""
        return len(self.entries)

    def units(self, start: int) -> Iterator[Unit]:
        """Folders with their seeds."""
        return islice(self.entries, start, None)

    def read(self, unit: Unit) -> Iterator[dict[str, Any] | SkipError]:
        """The pairs of a folder."""
        name, seeds = unit
        try:
            triplet = self.triplet(name)
        except SkipError as error:
            yield from [error] * max(len(seeds), 1)
            return
        if not seeds:
            yield SkipError("missing file", f"{self.folder.path / name} has no pictures")
        told = self.metadata(name)
        for seed in seeds:
            try:
                files = [self.folder.read(f"{name}/{seed}_{place}.jpg") for place in (0, 1)]
            except SkipError as error:
                yield error
                continue
            known = told.get(seed, {})
            yield {
                "name": f"{name}, seed {seed}",
                "original_prompt": triplet.original_prompt,
                "edit_prompt": triplet.edit_prompt,
                "edited_prompt": triplet.edited_prompt,
                "triplet_id": triplet.id,
                "original_image": files[0],
                "edited_image": files[1],
                "seed": whole(seed),
                "p": number(known.get("p", known.get("p2p_threshold"))),
                **{ours: number(known.get(theirs)) for ours, theirs in SCORES.items()},
            }

    def triplet(self, name: str) -> PairTriplet:
        """The texts of a folder."""
        path = f"{name}/prompt.json"
        told = self.folder.read_json(path)
        parts = (told.get("caption", told.get("input")), told.get("edit"), told.get("output"))
        return PairTriplet(*(text(part, f"{self.folder.path / path}") for part in parts))

    def metadata(self, name: str) -> dict[str, dict[str, Any]]:
        """What is told of each seed, as far as it can be read."""
        try:
            lines = self.folder.read(f"{name}/metadata.jsonl").splitlines()
        except SkipError:
            return {}
        told = {}
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue  # a run of theirs that was stopped leaves half a line
            if isinstance(row, dict):
                told[str(row.get("seed"))] = row
        return told


def listed(path: Path) -> list[Unit]:
    """The folders and seeds that seeds.json tells."""
    entries = []
    for entry in load_list(path, list):
        match entry:
            case [str(name), list(seeds)]:
                entries.append((name, [str(seed) for seed in seeds]))
            case _:
                raise ValueError(f"{path} is damaged: its entries are a folder's name and a list of seeds.")
    return entries


def found(path: Path) -> list[Unit]:
    """The folders with a prompt.json, at most two deep as the released shards are, and their seeds."""
    entries = []
    for name in folders(path):
        inside = [name, *(f"{name}/{each}" for each in folders(path / name))]
        for each in inside:
            if (path / each / "prompt.json").is_file():
                names = os.listdir(path / each)  # noqa: PTH208 - in a large folder, names alone are far faster
                seeds = [file.removesuffix("_0.jpg") for file in names if file.endswith("_0.jpg")]
                entries.append((each, sorted(seeds, key=lambda seed: (len(seed), seed))))
    return entries


def folders(path: Path) -> list[str]:
    """The names of the folders in a folder, in order; links are left out."""
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
