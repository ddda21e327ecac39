"""Pairs drawn by the renderer as a dataset: what a perfect image stage would make of the shapes world's triplets.

python -m ip2p.training.shapes.rendered --count 65536 --folder runs/rendered
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from PIL import Image

from ..pairs.candidates import PairTriplet
from ..pairs.importers import import_pairs
from ..pairs.pictures import SkipError, png
from .edits import KINDS, random_edit, undo
from .render import render

DRAWN_KINDS = (*KINDS, "swap", "swap")  # the hardest to learn comes three times as often
UNITS = 4096  # of a shard


class RenderedLayout:
    """Edits by number, each a triplet with one pair; no combination held out is in any."""

    source = "rendered"

    def __init__(self, count: int) -> None:
        self.total = count

    def identity(self) -> dict[str, Any]:
        """Which edits."""
        return {"layout": "rendered", "from": "the shapes world", "rows": self.total, "both ways": True}

    def count(self) -> int:
        """Edits."""
        return self.total

    def units(self, start: int) -> Iterator[int]:
        """Their numbers."""
        return iter(range(start, self.total))

    def read(self, unit: int) -> Iterator[dict[str, Any] | SkipError]:
        """The pair of an edit."""
        rng = random.Random(f"rendered/{unit}")
        edit = random_edit(rng, rng.choice(DRAWN_KINDS))
        back = undo(edit.kind, edit.source, edit.target, rng)
        triplet = PairTriplet(edit.original_prompt, edit.edit_prompt, edit.edited_prompt, edit.kind, back)
        yield {
            "name": f"edit {unit}",
            "original_prompt": triplet.original_prompt,
            "edit_prompt": triplet.edit_prompt,
            "edited_prompt": triplet.edited_prompt,
            "kind": triplet.kind,
            "inverse_prompt": triplet.inverse_prompt,
            "triplet_id": triplet.id,
            "original_image": png(Image.fromarray(render(edit.source))),
            "edited_image": png(Image.fromarray(render(edit.target))),
        }


@dataclass
class RenderedSettings:
    """Draw pairs of the shapes world."""

    count: int = 65_536
    """Pairs."""
    folder: Path = Path("runs/rendered")
    """Folder of the dataset; the same command goes on with what is there."""


def main(settings: RenderedSettings) -> None:
    """Draw and write the pairs."""
    report = import_pairs(RenderedLayout(settings.count), settings.folder, UNITS)
    print(f"{settings.folder}  {report.examples:,} pairs")


if __name__ == "__main__":
    main(auto_cli(RenderedSettings, as_positional=False))
