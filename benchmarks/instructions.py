"""The text stage's bars, printed: what `ip2p dataset instructions` takes for many triplets, and what kills cost it.

    python benchmarks/instructions.py            50,000, 150,000 and 454,445 triplets of the shapes world; 20 kills
    python benchmarks/instructions.py --quick    5,000, 10,000 and 20,000; 4 kills

The last line has the figures. Two are ratios, at most about 1 where time is linear in the count: `time_per_triplet`, at
the largest count by that at the smallest; `time_per_further_triplet`, from the middle count to the largest by that from
the smallest to the middle, which the command's start does not flatter.

The kills are SIGKILL, at random moments of one dataset's making against a service that limits rates, fails, drops
connections and answers badly. `identical` tells whether the dataset is then the same, byte for byte, as one that nobody
disturbed. `asked_twice` are answers that the service gave again. `in_flight` are requests that were sent and whose
answers were not on disk when kills came, `at_once` the most of them at one kill: 8 are asked at a time.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import pyarrow.parquet as pq
from ip2p.training.instructions.seeds import load_seeds

IP2P = [sys.executable, "-m", "ip2p.cli"]
COUNTS = (50_000, 150_000, 454_445)  # the last is the paper's
QUICK_COUNTS = (5_000, 10_000, 20_000)
SERVICE = Path(__file__).parents[1] / "tests" / "openai_server.py"
FAULTS = {
    "latency": 0.1,
    "rate_limited": 0.05,
    "retry_after": "0.2",
    "errors": 0.05,
    "drops": 0.02,
    "malformed": 0.05,
    "truncated": 0.05,
    "refused": 0.02,
}
CONCURRENCY = 8


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
    command = [*IP2P, "dataset", "instructions", "--backend", "shapes", "--num-captions", str(count), "-o", str(folder)]
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


@contextmanager
def service() -> Iterator[str]:
    """The address of a service of its own process, with faults."""
    command = [sys.executable, str(SERVICE), "--faults", json.dumps(FAULTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def counts(url: str) -> dict[str, Any]:
    """What the service was asked."""
    with urlopen(url.removesuffix("v1") + "counts") as response:
        return json.load(response)


def not_on_disk(url: str, folder: Path) -> int:
    """How many requests the service is at, or has answered, whose answers are not on disk."""
    stored = sum(file.read_bytes().count(b"\n") for file in (folder / "answers").glob("*.jsonl"))
    told = counts(url)
    return told["in_flight"] + sum(told["answered"].values()) - stored


def make_hosted(url: str, captions: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start to make a dataset with the service."""
    hosted = ["--model", "tiny", "--base-url", url, "--backoff", "0.1", "--concurrency", str(CONCURRENCY)]
    chosen = ["--captions", str(captions), "--num-captions", "1000000", "-o", str(folder)]
    command = [*IP2P, "dataset", "instructions", *hosted, *chosen]
    environment = os.environ | {"OPENAI_API_KEY": "sk-benchmark"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kills(count: int, number: int) -> str:
    """Make a dataset of `number` captions undisturbed, then with `count` kills, and return the figures."""
    seeds = [seed for part in load_seeds() for seed in part]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        captions = folder / "captions.txt"
        captions.write_text("\n".join(seed.original_prompt for seed in seeds[:number]), encoding="utf-8")
        with service() as url:
            start = time.perf_counter()
            process = make_hosted(url, captions, folder / "undisturbed")
            while not counts(url)["asked"]:
                time.sleep(0.05)
            loaded = time.perf_counter() - start
            if process.wait():
                sys.exit("the undisturbed run failed")
            asking = time.perf_counter() - start - loaded
        chance, in_flight = random.Random(0), []
        with service() as url:
            for _ in range(count):
                lost_before = not_on_disk(url, folder / "killed")
                process = make_hosted(url, captions, folder / "killed")
                # Each run gets so far, on average, that the last kills come when the answers are nearly complete.
                time.sleep(chance.uniform(0.8 * loaded, loaded + 2 * asking / count))
                process.send_signal(signal.SIGSTOP)  # so that nothing moves while the service is asked
                in_flight.append(not_on_disk(url, folder / "killed") - lost_before)
                process.kill()
                process.wait()
                while counts(url)["in_flight"]:
                    time.sleep(0.05)
            if make_hosted(url, captions, folder / "killed").wait():
                sys.exit("the last run failed")
            told = counts(url)
        one, other = ((folder / each / "triplets.parquet") for each in ("undisturbed", "killed"))
        identical = one.read_bytes() == other.read_bytes()
        rows = pq.read_metadata(other).num_rows
    answers = sum(told["answered"].values())
    print(
        f"\n{count} kills while {rows:,} triplets were made: {answers:,} answers, {told['repeated']} of them again, "
        f"{sum(in_flight)} requests in flight at the kills"
    )
    return (
        f"kills={count} identical={identical} asked_twice={told['repeated']} in_flight={sum(in_flight)} "
        f"at_once={max(in_flight)}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer, under a minute")
    arguments = parser.parse_args()
    scaled = scale(QUICK_COUNTS if arguments.quick else COUNTS)
    print(scaled, kills(4, 60) if arguments.quick else kills(20, 500))


if __name__ == "__main__":
    main()
