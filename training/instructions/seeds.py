"""Triplets written by hand, that teach a language model what an edit is: ours, and the InstructPix2Pix authors'."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .triplets import KINDS, digest

SEEDS = Path(__file__).parent / "seeds.jsonl"
"""Our 700 seeds, 70 of them held out; seeds.md says more."""

# Our name of each text, then those of the authors' files: their scripts write `caption` and read `input`.
TEXTS = {
    "original_prompt": ("original_prompt", "caption", "input"),
    "edit_prompt": ("edit_prompt", "edit"),
    "edited_prompt": ("edited_prompt", "output"),
}


@dataclass(frozen=True)
class Seed:
    """A triplet written by hand. Its kind is one of KINDS, or "" where the file names none."""

    original_prompt: str
    edit_prompt: str
    edited_prompt: str
    kind: str = ""


def load_seeds(path: Path | None = None) -> tuple[list[Seed], list[Seed]]:
    """(Seeds to learn from, seeds held out) of a JSONL file, by default ours, in the file's order.

    A line has `original_prompt`, `edit_prompt`, `edited_prompt`, `kind` and `held_out`, or what the authors' released
    files have: `caption` or `input`, `edit`, `output`. Where a line says nothing about `held_out`, a tenth is, chosen
    by a hash of its caption.

    Raises ValueError, which names the line, where one is no seed, and OSError where there is no such file.
    """
    path = path or SEEDS
    training: list[Seed] = []
    held_out: list[Seed] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            seed, is_held_out = read_seed(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is no seed triplet: {error}.") from None
        (held_out if is_held_out else training).append(seed)
    if not training:
        raise ValueError(f"{path} holds no seed triplets.")
    return training, held_out


def read_seed(line: bytes) -> tuple[Seed, bool]:
    """A line's seed, and whether it is held out. Raises ValueError."""
    try:
        given = json.loads(line)
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(given, dict):
        raise ValueError("it is not a JSON object")
    kind = given.get("kind", "")
    if kind not in ("", *KINDS):
        raise ValueError(f"there is no kind {json.dumps(kind)}: it is one of {', '.join(KINDS)}")
    seed = Seed(**{name: read_text(given, names) for name, names in TEXTS.items()}, kind=kind)
    held_out = given.get("held_out", int(digest(seed.original_prompt), 16) % 10 == 0)
    if not isinstance(held_out, bool):
        raise ValueError(f"held_out is true or false, not {json.dumps(held_out)}")
    return seed, held_out


def read_text(given: dict[str, Any], names: tuple[str, ...]) -> str:
    """The text that a line has under one of several names. Raises ValueError."""
    for name in names:
        if name in given:
            text = given[name]
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name} is a text, not {json.dumps(text)}")
            return text.strip()
    raise ValueError(f"it has no {' or '.join(names)}")
