"""A recipe killed (−9) at random moments, against one that was left alone: stages whose results differ.

    python benchmarks/recipe_kills.py [--quick] [--kills 10]

Runs `ip2p recipe shapes --smoke`, all stages from captions to a package. What it prints of each stage is a hash of its
files, of the evaluation of its report.csv. The last line has the figures; the exit status is 1 where a stage differs,
or the run came to its end before all kills.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from ip2p.commands.recipe_settings import RECIPES

HASH = 16  # letters


def start(recipe: str, output: Path, *flags: str) -> subprocess.Popen[str]:
    """Start the command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ip2p.cli", "recipe", recipe, "-o", str(output), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def hashes(process: subprocess.Popen[str]) -> dict[str, str]:
    """The hash of each stage of a run that must come to its end."""
    told, problems = process.communicate()
    if process.returncode:
        sys.exit(f"the run ended with {process.returncode}: {problems[-2000:]}")
    lines = [line.split(maxsplit=2) for line in told.splitlines()]
    return {words[1]: words[0] for words in lines if len(words) == 3 and len(words[0]) == HASH}


def quick_recipe(folder: Path) -> str:
    """The first two stages, of few triplets."""
    told = yaml.safe_load((RECIPES / "shapes.yaml").read_text())
    captions, pairs = (told[name] | told["smoke"][name] for name in ("dataset instructions", "dataset pairs"))
    few = {"dataset instructions": captions | {"num_captions": 8}, "dataset pairs": pairs | {"steps": 4}}
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(few))
    return str(path)


def main() -> None:
    """Print how many stages differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one kill, of triplets and pairs alone")
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    rng, killed = random.Random(0), 0
    with TemporaryDirectory() as aside:
        recipe = quick_recipe(Path(aside)) if arguments.quick else "shapes"
        flags = [] if arguments.quick else ["--smoke"]
        kills = 1 if arguments.quick else arguments.kills
        began = time.monotonic()
        whole = hashes(start(recipe, Path(aside) / "whole", *flags))
        took = time.monotonic() - began
        cut = Path(aside) / "cut"
        while killed < kills:
            process = start(recipe, cut, *flags)
            # So late that it comes further each time, on average through all stages by the last kill.
            time.sleep(rng.uniform(0.05, 0.2) * took)
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            there = sorted(path.stem.partition("-")[0] for path in cut.glob("*-*.json"))
            print(f"kill {killed}, done so far: {', '.join(there) or 'nothing'}", flush=True)
        again = hashes(start(recipe, cut, *flags))
    different = [name for name in whole if whole[name] != again.get(name)]
    print(f"stages={len(whole)} kills={killed} differ={len(different)} {' '.join(different)}".rstrip())
    sys.exit(0 if whole and killed == kills and not different else 1)


if __name__ == "__main__":
    main()
