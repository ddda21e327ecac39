"""The shapes world's grammar as a backend: captions of its scenes, and instructions that are right by construction."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from ..shapes.captions import caption, some_cells
from ..shapes.edits import KINDS, change, undo
from ..shapes.reading import read_caption, reworded
from ..shapes.scenes import is_unambiguous, random_scene
from .answers import Answers
from .triplets import Caption, Parsed, Request, Tokens, missing

CHUNK = 1000  # answers written together

# Fewer captions allow these kinds: drawn more often, they are about as frequent as the others, but for swaps, which are
# the hardest to draw and to learn, and come twice as often.
DRAWN_KINDS = (*KINDS, "add", "add", "remove", *["swap"] * 9, "move")


def grammar_captions(count: int, seed: int) -> Iterator[Caption]:
    """The first `count` captions of a seed, no two alike, of scenes that may be trained on; half leave places open.

    A smaller count gives the beginning of a larger one.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        text = caption(random_scene(rng), rng, some_cells(rng))
        if text not in seen:
            seen.add(text)
            yield Caption(text)


class GrammarBackend:
    """Edits captions of the shapes world by its own grammar: exact, free, thousands of triplets a second."""

    model = "shapes"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        """All that answers depend on."""
        return {"model": self.model, "seed": self.seed, "kinds": DRAWN_KINDS}

    def estimate(self, request: Request) -> Tokens:
        """Nothing: no language model is asked."""
        return Tokens(0, 0)

    def answer(self, requests: Sequence[Request], answers: Answers) -> None:
        """Add a random edit of each caption. Raises ValueError for a caption of something else than shapes."""
        wanted = missing(requests, answers)
        for start in range(0, len(wanted), CHUNK):
            answers.add(*map(self.edit, wanted[start : start + CHUNK]))

    def edit(self, request: Request) -> dict[str, Any]:
        """A random edit of a request's caption; what training must not show is not made where it was not before."""
        text, rng = request.caption.text, random.Random(request.seed(self.seed))
        source, placed = read_caption(text, rng)
        while True:
            kind = rng.choice(DRAWN_KINDS)
            changed = change(kind, source, rng, placed)
            if changed is None:
                continue
            target, instruction, cells = changed
            # Where a caption leaves a place open, nobody knows which cells are free, or what to swap with what.
            if kind in ("add", "move") and len(placed) < len(source.things):
                continue
            if kind == "swap" and not set(cells) <= set(placed):
                continue
            if is_unambiguous(target) and target.held_out <= source.held_out:
                edited = reworded(text, source, target, rng)
                inverse = undo(kind, source, target, rng, placed)
                return {"id": request.id, "edit": instruction, "output": edited, "kind": kind, "inverse": inverse}

    def parse(self, request: Request, answer: dict[str, Any]) -> Parsed:
        """The answer's texts, and its kind of `training.shapes.edits`."""
        return Parsed(answer["edit"], answer["output"], answer["kind"], answer["inverse"])
