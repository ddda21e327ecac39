"""Captions in, triplets out: ask, ask again where an answer holds no triplet, clean, and write the dataset.

A run is a folder: `answers/` has every answer as it came, `triplets.parquet` the dataset, `report.md` and `report.json`
what was dropped and why. Started again, it asks only for what it lacks.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from .answers import Answers
from .triplets import Backend, BadAnswerError, Request, Triplet, digest, missing

ATTEMPTS = 4  # one and three more (InstructPix2Pix's own code)
ROWS = 10_000  # rows a group of the Parquet file
SCHEMA = pa.schema([(each.name, pa.string()) for each in fields(Triplet)])


@dataclass
class Parsing:
    """What came of the answers: requests settled at which attempt, and what was wrong with answers."""

    attempts: Counter[int] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    given_up: int = 0


def fingerprint(backend: Backend) -> str:
    """Names a backend's settings: answers are kept apart by it."""
    return digest(json.dumps(backend.settings(), sort_keys=True))


def ask(requests: list[Request], backend: Backend, answers: Answers) -> None:
    """Get an answer that holds a triplet to each request, in up to four attempts."""
    pending = requests
    for attempt in range(ATTEMPTS):
        wanted = missing(pending, answers)
        if wanted:
            name = "asking" if attempt == 0 else f"asking again ({attempt})"
            with tqdm(total=len(pending), initial=len(pending) - len(wanted), desc=name, unit="answer") as bar:
                answers.added = bar.update
                backend.answer(wanted, answers)
        pending = [replace(request, attempt=attempt + 1) for request in pending if is_bad(request, backend, answers)]


def is_bad(request: Request, backend: Backend, answers: Answers) -> bool:
    """Whether the answer to a request holds no triplet."""
    try:
        backend.parse(request, answers[request.id])
    except BadAnswerError:
        return True
    return False


def read(requests: Iterable[Request], backend: Backend, answers: Answers, parsing: Parsing) -> Iterator[Triplet]:
    """The triplets of all answers, in the order of the requests."""
    settings = fingerprint(backend)
    for first in requests:
        for attempt in range(ATTEMPTS):
            request = replace(first, attempt=attempt)
            if request.id not in answers:
                break
            try:
                told = backend.parse(request, answers[request.id])
            except BadAnswerError as error:
                parsing.bad[str(error)] += 1
                continue
            parsing.attempts[attempt + 1] += 1
            caption = request.caption
            yield Triplet(
                caption.text,
                told.edit_prompt,
                told.edited_prompt,
                told.kind,
                caption.id,
                backend.model,
                settings,
                told.inverse_prompt,
            )
            break
        else:
            parsing.given_up += 1


def write(triplets: Iterable[Triplet], path: Path) -> int:
    """Write triplets as Parquet, whole or not at all; returns how many."""
    aside = path.with_suffix(".partial")
    count = 0
    with pq.ParquetWriter(aside, SCHEMA) as writer:
        for rows in groups(triplets, ROWS):
            columns = [list(column) for column in zip(*map(astuple, rows), strict=True)]
            writer.write_table(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA))
            count += len(rows)
    aside.replace(path)
    return count


def groups(triplets: Iterable[Triplet], size: int) -> Iterator[list[Triplet]]:
    """Lists of up to `size`."""
    rows: list[Triplet] = []
    for triplet in triplets:
        rows.append(triplet)
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows
