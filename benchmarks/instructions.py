"""The text stage's bars, printed: what `ip2p dataset instructions` takes to make, clean and write triplets.

    python benchmarks/instructions.py            50,000, 150,000 and 454,445 triplets of the shapes world
    python benchmarks/instructions.py --quick    5,000, 10,000 and 20,000

The last line has the figures. Two are ratios, at most about 1 where time is linear in the count: `time_per_triplet`, at
the largest count by that at the smallest; `time_per_further_triplet`, from the middle count to the largest by that from
the smallest to the middle, which the command's start does not flatter.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

IP2P = [sys.executable, "-m", "ip2p.cli"]
COUNTS = (50_000, 150_000, 454_445)  # the last is the paper's
QUICK_COUNTS = (5_000, 10_000, 20_000)


class Run(NamedTuple):
    """What one run of the command took, its start included, and gave."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Most memory resident at once, in 10^6 bytes."""
    rows: int


def make_shapes(count: int, folder: Path) -> Run:
    """Make, clean and write `count` triplets in a process of its own."""
    start = time.perf_counter()
    command = [*IP2P, "dataset", "instructions", "--backend", "shapes", "--count", str(count), "-o", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return Run(
        seconds=time.perf_counter() - start,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
        rows=pq.read_metadata(folder / "triplets.parquet").num_rows,
    )


def scale(counts: tuple[int, int, int]) -> str:
    """Print a line for each count, and return the figures."""
    print("| asked for | written | seconds | of CPU | peak MB | triplets/s |\n|---|---|---|---|---|---|")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            run = make_shapes(count, Path(folder) / str(count))
            print(
                f"| {count:,} | {run.rows:,} | {run.seconds:.1f} | {run.cpu_seconds:.1f} | {run.peak_mb:.0f} "
                f"| {run.rows / run.seconds:,.0f} |",
                flush=True,
            )
            runs.append(run)
    first, middle, last = runs
    ratio = last.seconds / last.rows / (first.seconds / first.rows)
    later, earlier = (
        (after.seconds - before.seconds) / (after.rows - before.rows)
        for before, after in ((middle, last), (first, middle))
    )
    return (
        f"triplets={last.rows} seconds={last.seconds:.1f} peak_MB={last.peak_mb:.0f} "
        f"time_per_triplet={ratio:.2f} time_per_further_triplet={later / earlier:.2f}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller counts, under a minute")
    arguments = parser.parse_args()
    figures = [scale(QUICK_COUNTS if arguments.quick else COUNTS)]
    print(" ".join(figures))


if __name__ == "__main__":
    main()
