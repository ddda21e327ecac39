"""How runs of `ip2p dataset pairs` hold up: memory, workers, and kills.

    python benchmarks/pairs_runs.py [--quick | --only memory workers kills worker_kills]

Runs of the command itself on triplets of the shapes world. `memory`: the peak of a run of ten times as many triplets,
as a ratio. `workers`: triplets a second of two workers of Ray to those of one, one thread each, once all are at work.
`kills`: the process killed (−9) at random moments and started again, until it is done: files that differ from an
undisturbed run's. `worker_kills`: likewise the workers of Ray, during one run. The last line has the figures.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.pairs.parts import Work
from ip2p.training.pairs.ray_engine import RayEngine
from pairs_cost import triplet_of
from shapes_pairs import DRAWING

FLAGS = ["--model", "shapes", "--clip-model", "shapes", "--steps", "10", "--guidance", "1.5", "3"]
FEW = [*FLAGS, "--seeds", "2", "--per-seed", "4", "--shard-triplets", "8"]


def write_triplets(path: Path, count: int) -> Path:
    """The first triplets of the shapes world, as a file."""
    with path.open("w") as file:
        for index in range(count):
            told = triplet_of(index)
            row = {name: getattr(told, name) for name in ("original_prompt", "edit_prompt", "edited_prompt", "kind")}
            file.write(json.dumps(row) + "\n")
    return path


def start(triplets: Path, output: Path, *flags: str) -> subprocess.Popen[str]:
    """Start the command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ip2p.cli", "dataset", "pairs", str(triplets), "-o", str(output), *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a run that must succeed."""
    _, told = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {told[-2000:]}")


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run but its lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def differing(one: Path, two: Path) -> int:
    """How many files of two runs are not the same."""
    first, second = files(one), files(two)
    return sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())


def peak_memory(triplets: Path, output: Path) -> float:
    """The most memory in MB that a run ever had."""
    process = start(triplets, output, *FLAGS, "--seeds", "1", "--per-seed", "2", "--steps", "2")
    threading.Thread(target=process.stderr.read, daemon=True).start()  # type: ignore[union-attr]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"the run ended with {status}")
    return usage.ru_maxrss / 1000


def memory(folder: Path, count: int) -> dict[str, float]:
    """The peaks of a run and of one of ten times as many triplets."""
    few = peak_memory(write_triplets(folder / "few.jsonl", count), folder / "few")
    many = peak_memory(write_triplets(folder / "many.jsonl", 10 * count), folder / "many")
    print(f"memory: {count} triplets {few:.0f} MB, {10 * count} triplets {many:.0f} MB", flush=True)
    return {"memory_ratio": many / few}


def speed(workers: int, count: int) -> float:
    """Triplets a second, from when every worker has done one to when one has nothing more to do."""
    settings = replace(MakerSettings(**DRAWING), seeds=2, per_seed=4, device="cpu")
    work = [Work(place, triplet_of(place)) for place in range(count)]
    times = [time.monotonic() for _ in RayEngine(workers=workers, gpus_per_worker=0).run(settings, work)]
    first, last = 2 * workers, count - workers
    return (last - first) / (times[last - 1] - times[first - 1])


def workers(count: int, rounds: int) -> dict[str, float]:
    """Two workers against one, in turns."""
    ratios = []
    for _ in range(rounds):
        one, two, again = speed(1, count), speed(2, count), speed(1, count)
        ratios.append(two / ((one + again) / 2))
        print(f"workers: {one:.2f} and {again:.2f} triplets a second by one, {two:.2f} by two", flush=True)
    return {"workers_ratio": float(np.median(ratios))}


def kills(folder: Path, count: int, times: int) -> dict[str, float]:
    """A run killed at random moments, against one that was not."""
    rng = random.Random(0)
    triplets = write_triplets(folder / "killed.jsonl", count)
    began = time.monotonic()
    finish(start(triplets, folder / "whole" / "pairs", *FEW))
    took = time.monotonic() - began
    done, restarts = 0, 0
    while done < times:
        output = folder / f"killed-{restarts}" / "pairs"  # the card has the folder's name
        restarts += 1
        while done < times:
            process = start(triplets, output, *FEW)
            try:
                process.communicate(timeout=rng.uniform(0.2, 0.9) * took)
                break  # it came to its end before
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                done += 1
        finish(start(triplets, output, *FEW))
        wrong = differing(folder / "whole" / "pairs", output)
        print(f"kills: {done} so far, {wrong} files differ", flush=True)
        if wrong:
            return {"kills": done, "kills_differ": wrong}
    return {"kills": done, "kills_differ": 0}


def worker_kills(folder: Path, count: int, times: int) -> dict[str, float]:
    """Workers of Ray killed during a run, against one process."""
    rng = random.Random(1)
    triplets = write_triplets(folder / "workers.jsonl", count)
    finish(start(triplets, folder / "alone" / "pairs", *FEW))
    process = start(triplets, folder / "ray" / "pairs", *FEW, "--engine", "ray", "--workers", "2")
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.append(process.stderr.read()))  # type: ignore[union-attr]
    reader.start()
    killed = 0
    while process.poll() is None and killed < times:
        time.sleep(rng.uniform(1, 3))
        # A worker at work: its process's title tells the method.
        listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        at_work = re.findall(r"^\s*(\d+) ray::Worker\.make", listing, re.MULTILINE)
        if at_work and any((folder / "ray" / "pairs" / "parts").glob("*.parquet")):
            os.kill(int(rng.choice(at_work)), signal.SIGKILL)
            killed += 1
    process.wait()
    reader.join()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {told[-1][-2000:]}")
    wrong = differing(folder / "alone" / "pairs", folder / "ray" / "pairs")
    print(f"worker kills: {killed}, {wrong} files differ", flush=True)
    return {"worker_kills": killed, "worker_kills_differ": wrong}


PARTS = ("memory", "workers", "kills", "worker_kills")


def run(folder: Path, quick: bool, only: tuple[str, ...] = PARTS) -> dict[str, float]:
    """All figures."""
    figures: dict[str, float] = {}
    if quick:
        return kills(folder, 4, 1)
    if "memory" in only:
        figures |= memory(folder, 40)
    if "workers" in only:
        figures |= workers(60, rounds=3)
    if "kills" in only:
        figures |= kills(folder, 40, 20)
    if "worker_kills" in only:
        figures |= worker_kills(folder, 60, 5)
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one kill, and nothing else")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        figures = run(Path(folder), arguments.quick, tuple(arguments.only))
    print(" ".join(f"{name}={value:g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
