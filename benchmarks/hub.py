"""Publishing and fetching, cut off at any moment, and what comes out at the other end.

    python benchmarks/hub.py [--quick]

Against a Hub on this machine (tests/hub_server.py), with the shapes model.

publish  kill -9 at random moments of `ip2p hub publish`, then the same command: runs whose repository is not that of an
         undisturbed one; files that were sent whole twice; the most bytes that were sent again, as a share of the
         largest file
pull     kill -9 at random moments of `ip2p hub pull`, in turn into the cache and into a folder, likewise
edits    of those loaded from the Hub where ip2p is not installed, by diffusers' own class and by the code published
         with it, those that differ by a bit from the same edit with the folder
hostile  repositories with names that leave the folder, pickles, false sizes, other content and more; those not refused

The last line has the figures.
"""

import argparse
import hashlib
import importlib
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

# Instead of this folder.
sys.path[0] = str(Path(__file__).parent.parent / "tests")
from hub_fixtures import HubHere  # noqa: E402
from hub_hostile import HOSTILE  # noqa: E402

SHAPES = Path(__file__).parent.parent / "ip2p_pipeline" / "shapes_model"
PUBLISH: list[object] = ["hub", "publish", SHAPES, "--to", "me/it"]
LOG = Path(gettempdir()) / f"ip2p-hub-{os.getpid()}.log"  # what a command prints
DELAY = 0.01  # seconds for each chunk of a transfer, so that there are moments to kill at

EDIT = """
import hashlib, sys
import numpy as np, torch
from PIL import Image
torch.set_num_threads(1)

def edited(pipe):
    pipe.set_progress_bar_config(disable=True)
    picture = Image.fromarray((np.arange(64 * 64 * 3).reshape(64, 64, 3) % 251).astype(np.uint8))
    call = dict(num_inference_steps=4, output_type="np", generator=torch.Generator().manual_seed(1))
    return hashlib.sha256(pipe("make it red", image=picture, **call).images.tobytes()).hexdigest()
"""
FROM_HUB = """
sys.modules["ip2p"] = None  # as where it is not installed
from diffusers import DiffusionPipeline, StableDiffusionInstructPix2PixPipeline as Stock
print(edited(Stock.from_pretrained("me/it")))
print(edited(DiffusionPipeline.from_pretrained("me/it", custom_pipeline="me/it", trust_remote_code=True)))
"""
FROM_FOLDER = """
from diffusers import StableDiffusionInstructPix2PixPipeline as Stock
from ip2p import InstructPix2PixPipeline
print(edited(Stock.from_pretrained({folder!r})))
print(edited(InstructPix2PixPipeline.from_pretrained({folder!r})))
"""


def start(*arguments: object) -> Any:
    """`ip2p` in a process of its own, which has imported already what takes long."""
    process = multiprocessing.get_context("fork").Process(target=work, args=([str(each) for each in arguments],))
    process.start()
    return process


def work(arguments: list[str]) -> None:
    """What that process does."""
    from ip2p.cli import main

    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os._exit(main(arguments))


def done(process: Any) -> None:
    """Wait for a process, which must go well."""
    process.join()
    assert process.exitcode == 0, LOG.read_text()


def runs(
    hub: HubHere, times: int, command: Callable[[int], list[object]], prepare: Callable[[], None]
) -> Iterator[Any]:
    """A run that nothing disturbs, number -1, and then runs that are killed at a random moment and repeated; of each,
    when it is done, its number and its transfers.
    """
    rng, lasts = random.Random(0), 0.0
    for number in range(-1, times):
        prepare()
        hub.post("/_control", {"delay": DELAY})
        began = time.monotonic()
        process = start(*command(number))
        if number == -1:
            done(process)
            lasts = time.monotonic() - began
        else:
            process.join(rng.uniform(0, lasts))
            process.kill()
            process.join()
            time.sleep(0.2)  # until the server sees that nobody is there any more
            done(start(*command(number)))
        yield number, hub.get("/_log")
    print(f"{command(0)[1]}: {times} kills within {lasts:.1f} s", flush=True)


def again(log: list[dict[str, Any]], name: str, sizes: dict[str, int]) -> tuple[int, float]:
    """Files that were transferred whole twice, and bytes that were transferred again, in the largest file's."""
    whole = Counter(entry[name] for entry in log if entry["whole"])
    total: Counter[str] = Counter()
    for entry in log:
        total[entry[name]] += entry["bytes"]
    more = sum(max(0, count - sizes[each]) for each, count in total.items())
    return sum(count - 1 for count in whole.values()), more / max(sizes.values())


def publish(hub: HubHere, times: int) -> dict[str, float]:
    """Killed and repeated publications."""
    weights = list(SHAPES.rglob("*.safetensors")) + list(SHAPES.rglob("tokenizer.json"))
    weights += list(SHAPES.parent.glob("*.py"))
    sizes = {hashlib.sha256(path.read_bytes()).hexdigest(): path.stat().st_size for path in weights}
    found, repeated = [], []
    for number, log in runs(hub, times, lambda _: PUBLISH, hub.forget):
        found.append(contents(hub))
        if number > -1:
            repeated.append(again(log, "oid", sizes))
    return {
        "publish_kills": times,
        "publish_other": sum(each != found[0] for each in found),
        "publish_files_twice": sum(files for files, _ in repeated),
        "publish_sent_again": max(share for _, share in repeated),
    }


def contents(hub: HubHere) -> dict[str, str]:
    """The hash of every file's bytes, as anyone gets them."""
    return {
        name: hashlib.sha256(hub.get_bytes(f"/me/it/resolve/main/{name}")).hexdigest() for name in hub.files("me/it")
    }


def pull(hub: HubHere, aside: Path, times: int) -> dict[str, float]:
    """Killed and repeated fetches of what was published, in turn into a folder and into the cache."""
    sizes = {path.relative_to(SHAPES).as_posix(): path.stat().st_size for path in SHAPES.rglob("*") if path.is_file()}
    other, repeated = 0, []

    def command(number: int) -> list[object]:
        return ["hub", "pull", "me/it", *(["--output", aside / str(number)] if number % 2 else [])]

    for number, log in runs(hub, times, command, hub.clear_cache):
        snapshots = hub.folder / "home/hub/models--me--it/snapshots"
        root = aside / str(number) if number % 2 else next(snapshots.iterdir())
        got = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
        got = {path for path in got if path.parts[0] != ".cache"}
        is_same = {path.as_posix() for path in got} == set(sizes)
        other += not (is_same and all((root / name).read_bytes() == (SHAPES / name).read_bytes() for name in sizes))
        if number > -1:
            repeated.append(again(log, "path", sizes))
    return {
        "pull_kills": times,
        "pull_other": other,
        "pull_files_twice": sum(files for files, _ in repeated),
        "pull_fetched_again": max(share for _, share in repeated),
    }


def edits(hub: HubHere) -> dict[str, float]:
    """The same edit by what is on the Hub and by the folder."""
    theirs = hub.python(EDIT + FROM_HUB).split()[-2:]
    ours = hub.python(EDIT + FROM_FOLDER.format(folder=str(SHAPES)), offline=True).split()[-2:]
    print(f"edits: {' '.join(each[:12] for each in theirs)} and {' '.join(each[:12] for each in ours)}", flush=True)
    return {"edits": len(ours), "edits_other": sum(one != two for one, two in zip(theirs, ours, strict=True))}


def hostile(hub: HubHere, aside: Path) -> dict[str, float]:
    """Repositories that must be refused, with nothing left of them outside the folder that was asked for."""
    taken = []
    for name, repo in HOSTILE.items():
        hub.forget()
        repo.put(hub)
        before = set(aside.rglob("*"))
        process = start("hub", "pull", "me/bad", "--output", aside / "hostile" / "got")
        process.join()
        left = [path for path in set(aside.rglob("*")) - before if "hostile" not in path.parts]
        if process.exitcode != 1 or left:
            taken.append(name)
    print(f"hostile: {', '.join(HOSTILE)}; not refused: {', '.join(taken) or 'none'}", flush=True)
    return {"hostile": len(HOSTILE), "hostile_not_refused": len(taken)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two kills of each")
    times = 2 if parser.parse_args().quick else 20
    with TemporaryDirectory() as folder:
        aside = Path(folder)
        hub = HubHere(aside / "server")
        os.environ.pop("HF_HUB_OFFLINE", None)
        os.environ.update(hub.environment())  # read when what follows is imported
        for name in ("commands.hub", "commands.arguments", "commands.models", "hub.publish", "hub.pull"):
            importlib.import_module(f"ip2p.{name}")
        try:
            figures = publish(hub, times) | pull(hub, aside, times) | edits(hub) | hostile(hub, aside)
        finally:
            hub.stop()
            LOG.unlink(missing_ok=True)
    print(" ".join(f"{name}={value:.3g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
