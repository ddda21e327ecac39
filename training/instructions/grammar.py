"""The shapes world's grammar as a backend: captions of its scenes, and instructions that are right by construction."""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..shapes.captions import SIZE_WORDS, caption
from ..shapes.edits import KINDS, change
from ..shapes.scenes import BACKGROUNDS, CELLS, COLORS, SHAPES, Scene, Thing, is_unambiguous, make_scene, random_scene
from .answers import Answers
from .triplets import Caption, Request, Tokens, missing

CHUNK = 1000  # answers written together

SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
OBJECT = re.compile(
    rf"a ({'|'.join(SIZE_OF)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) (?:at|in|on) the ({'|'.join(CELLS)})"
)
BACKGROUND = re.compile(rf"(?:on|against) a ({'|'.join(BACKGROUNDS)}) background|on ({'|'.join(BACKGROUNDS)})")
BETWEEN = re.compile("(?:, | and | )*")

# An object can be added to two scenes of three only: drawn twice as often, add is about as frequent as the others.
DRAWN_KINDS = (*KINDS, "add")


def grammar_captions(count: int, seed: int) -> Iterator[Caption]:
    """The first `count` captions of a seed, no two alike, of scenes that may be trained on.

    A smaller count gives the beginning of a larger one.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        text = caption(random_scene(rng), rng)
        if text not in seen:
            seen.add(text)
            yield Caption(text)


def read_caption(text: str) -> Scene:
    """The scene that a caption of the grammar tells, its objects in the middle of their cells.

    Raises ValueError for any other text.
    """
    grounds = BACKGROUND.findall(text)
    things = [
        Thing(shape, color, SIZE_OF[size], CELLS.index(place)) for size, color, shape, place in OBJECT.findall(text)
    ]
    rest = OBJECT.sub("", BACKGROUND.sub("", text))
    apart = len({thing.cell for thing in things}) == len(things) <= 3
    if len(grounds) == 1 and things and apart and BETWEEN.fullmatch(rest):
        scene = make_scene("".join(grounds[0]), things)
        if is_unambiguous(scene):
            return scene
    raise ValueError(f"{text!r} is no caption of the shapes world, the only ones that the shapes backend can edit.")


class GrammarBackend:
    """Edits captions of the shapes world by its own grammar: exact, free, thousands of triplets a second."""

    model = "shapes"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        """All that answers depend on."""
        return {"model": self.model, "seed": self.seed}

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
        source = read_caption(request.caption.text)
        rng = random.Random(request.seed(self.seed))
        while True:
            kind = rng.choice(DRAWN_KINDS)
            changed = change(kind, source, rng)
            if changed is None:
                continue
            target, instruction, _ = changed
            if is_unambiguous(target) and target.held_out <= source.held_out:
                return {"id": request.id, "edit": instruction, "output": caption(target, rng), "kind": kind}

    def parse(self, request: Request, answer: dict[str, Any]) -> tuple[str, str, str]:
        """(instruction, edited caption, kind of `training.shapes.edits`)."""
        return answer["edit"], answer["output"], answer["kind"]
