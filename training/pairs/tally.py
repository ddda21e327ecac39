"""What became of a run's triplets and candidates, counted a few rows at a time."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .features import CANDIDATES, FAILED, KEPT, SCORES
from .run_folder import lone_parts, merged_blocks, number
from .shards import read_shard, shards

BINS = 400
RANGES = {**dict.fromkeys(SCORES, (-1.0, 1.0)), "p": (0.0, 1.0)}
MOST_PROBLEMS = 50  # told apart; a report stays short whatever fails
ROWS = 1 << 14  # read at a time


@dataclass
class Histogram:
    """How often a number came, in narrow bins, of candidates that are kept and of those that are not."""

    low: float
    high: float
    kept: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    dropped: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: np.ndarray, kept: np.ndarray) -> None:
        """Count numbers; those that are unknown or not finite are left out."""
        finite = np.isfinite(values)
        for counts, chosen in ((self.kept, kept & finite), (self.dropped, ~kept & finite)):
            places = (values[chosen].astype(np.float64) - self.low) / (self.high - self.low) * BINS
            counts += np.bincount(np.clip(places.astype(np.int64), 0, BINS - 1), minlength=BINS)


@dataclass
class Tally:
    """The counts of a run."""

    triplets: int = 0
    """Finished, those that failed too."""
    with_pairs: int = 0
    """Triplets with at least one pair."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Of candidates."""
    problems: Counter[str] = field(default_factory=Counter)
    """Of triplets that failed."""
    failed: list[tuple[int, str, str]] = field(default_factory=list)
    """Some of them: place, id and problem."""
    histograms: dict[str, Histogram] = field(
        default_factory=lambda: {name: Histogram(*limits) for name, limits in RANGES.items()}
    )
    examples: int = 0
    """Rows of data/."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Of examples."""

    def report(self) -> dict[str, Any]:
        """The counts as JSON."""
        return {
            "triplets": self.triplets,
            "failed": sum(self.problems.values()),
            "with_pairs": self.with_pairs,
            "candidates": sum(self.verdicts.values()),
            "verdicts": dict(self.verdicts.most_common()),
            "kept": self.verdicts[KEPT],
            "examples": self.examples,
            "kinds": dict(sorted(self.kinds.items())),
            "problems": dict(self.problems.most_common()),
        }


def count_run(folder: Path) -> Tally:
    """The counts of a run, finished or not."""
    tally = Tally()
    merged = merged_blocks(folder)
    files = [*shards(folder / "candidates"), *lone_parts(folder)]
    for path in files:
        last, with_pairs = None, set()
        for table in read_shard(path, CANDIDATES.names, rows=ROWS):
            places = column(table, "triplet")
            tally.triplets += int((places[1:] != places[:-1]).sum()) + int(places[0] != last)
            last = places[-1]
            verdicts = np.array(table["verdict"].to_pylist(), dtype=object)
            kept = verdicts == KEPT
            with_pairs |= set(places[kept].tolist())
            tally.verdicts.update(verdict for verdict in verdicts if verdict != FAILED)
            for name, histogram in tally.histograms.items():
                histogram.add(column(table, name), kept)
            if (verdicts == FAILED).any():
                add_failed(tally, table)
        tally.with_pairs += len(with_pairs)
    for path in shards(folder / "data"):
        if not files or number(path) in merged:
            count_examples(tally, path, scores=not files)
    return tally


def count_examples(tally: Tally, path: Path, scores: bool = True) -> None:
    """Count a file of examples, and their scores where no candidates tell them."""
    for table in read_shard(path, ["triplet_id", "kind", *RANGES], rows=ROWS):
        tally.examples += table.num_rows
        kinds = table["kind"].to_pylist() if "kind" in table.column_names else [""] * table.num_rows
        tally.kinds.update(kind or "" for kind in kinds)
        for name, histogram in tally.histograms.items():
            if scores and name in table.column_names:
                histogram.add(column(table, name).astype(np.float64), np.ones(table.num_rows, bool))


def add_failed(tally: Tally, table: pa.Table) -> None:
    """Count the triplets that failed."""
    for row in table.select(["triplet", "triplet_id", "verdict", "problem"]).to_pylist():
        if row["verdict"] != FAILED:
            continue
        problem = row["problem"] or "unknown"
        known = problem in tally.problems or len(tally.problems) < MOST_PROBLEMS
        tally.problems[problem if known else "other problems"] += 1
        if len(tally.failed) < MOST_PROBLEMS:
            tally.failed.append((row["triplet"], row["triplet_id"], problem))


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers, NaN where they are null."""
    return table[name].to_numpy(zero_copy_only=False)
