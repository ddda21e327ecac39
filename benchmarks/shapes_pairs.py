"""How many pairs are right: without Prompt-to-Prompt, with `paper` and with `full`, before the filter and after it.

    python benchmarks/shapes_pairs.py [--quick] [--folder runs/shapes_pairs] [--sheet FILE.png]

Triplets of the shapes world, whose captions leave places open, are each drawn 16 times a way by the base model inside
the package. `independent`: each picture from noise of its own. `noise`: both from the same noise, which is the part of
Prompt-to-Prompt that is not attention. Both have 16 seeds, `paper` and `full` 4 with 4 values of p. The oracle says of
each pair whether both pictures show their captions (`drawn`), and whether besides the second is the first, edited
(`right`). The filter is the one of `ip2p dataset pairs` with the CLIP inside the package.

A run goes on from what is in its folder. The last line has the figures.
"""

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ip2p.training.pairs.candidates import PairTriplet, Rendered, Scores, draw_groups
from ip2p.training.pairs.clip_filter import verdicts
from ip2p.training.pairs.maker import PairMaker
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.shapes.edits import KINDS
from ip2p.training.shapes.triplets import judge, open_triplet
from PIL import Image, ImageDraw
from tqdm import tqdm

WAYS: dict[str, tuple[Any, int, int]] = {  # method, seeds, candidates of each
    "independent": ("none", 16, 1),
    "noise": ("none", 16, 1),
    "paper": ("paper", 4, 4),
    "full": ("full", 4, 4),
}
DRAWN = ("noise", "paper", "full")  # `independent` is the source of one seed with the target of the next
# What suits the base model: see docs/dataset.md.
DRAWING: dict[str, Any] = {
    "model": "shapes",
    "clip_model": "shapes",
    "steps": 10,
    "guidance": (1.5, 3.0),
    "image_format": "png",
}


def settings_of(way: str) -> MakerSettings:
    """The settings of a way of making pairs."""
    method, seeds, per_seed = WAYS[way]
    return MakerSettings(**DRAWING, method=method, seeds=seeds, per_seed=per_seed)


@cache
def maker(way: str) -> PairMaker:
    """The models, loaded once a process."""
    torch.set_num_threads(1)
    return PairMaker(settings_of(way))


def drawn(way: str, index: int) -> tuple[PairTriplet, list[Rendered]]:
    """A triplet and its candidates' pictures."""
    told = open_triplet(index)
    triplet = PairTriplet(told.edit.original_prompt, told.edit.edit_prompt, told.edit.edited_prompt, told.edit.kind)
    groups = draw_groups(triplet, settings_of(way))
    rendered = maker(way).renderer.render(triplet.original_prompt, triplet.edited_prompt, groups)
    return triplet, apart(rendered) if way == "independent" else rendered


def apart(rendered: list[Rendered]) -> list[Rendered]:
    """Each source with the target of the next seed."""
    return [
        replace(one, targets=other.targets) for one, other in zip(rendered, rendered[1:] + rendered[:1], strict=True)
    ]


def measure(task: tuple[str, int]) -> list[dict]:
    """The candidates of a triplet: scores, seeds, and the oracle's verdicts. Of `noise` those of `independent`, too."""
    way, index = task
    triplet, rendered = drawn(way, index)
    rows = [row_of(way, index, triplet, rendered)]
    return [*rows, row_of("independent", index, triplet, apart(rendered))] if way == "noise" else rows


def row_of(way: str, index: int, triplet: PairTriplet, rendered: list[Rendered]) -> dict:
    """What is found of a triplet's candidates."""
    judged = [judge(open_triplet(index), group.source, target) for group in rendered for target in group.targets]
    groups = draw_groups(triplet, settings_of(way))
    return {
        "way": way,
        "index": index,
        "seeds": [group.seed for group in groups for _ in group.ps],
        "ps": [p for group in groups for p in group.ps],
        "scores": [list(asdict(score).values()) for score in maker(way).scorer.score(triplet, rendered)],
        "drawn": [verdict.drawn for verdict in judged],
        "right": [verdict.right for verdict in judged],
    }


def measured(tasks: list[tuple[str, int]], path: Path, workers: int) -> Iterator[dict]:
    """The rows of all tasks; those that the file lacks are made and added to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                row = json.loads(line)
                known[row["way"], row["index"]] = row
        path.write_text("".join(json.dumps(row) + "\n" for row in known.values()))
    missing = [task for task in tasks if task not in known]
    with path.open("a") as file, ProcessPoolExecutor(workers) as pool:
        for rows in tqdm(pool.map(measure, missing, chunksize=1), total=len(missing), unit="triplet"):
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            known |= {(row["way"], row["index"]): row for row in rows}
    return (known[way, index] for way in WAYS for index in sorted({index for _, index in tasks}))


def table(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Print right pairs by way and kind, before and after the filter; the totals by way."""
    totals = {}
    print(f"{'':<12}" + "".join(f"{way:^32}" for way in WAYS))
    print(f"{'kind':<12}" + f"{'drawn':>8}{'right':>8}{'kept':>7}{'right':>8} " * len(WAYS))
    for kind in (*KINDS, "all"):
        line = f"{kind:<12}"
        for way in WAYS:
            candidates: dict[str, list[bool]] = {"drawn": [], "right": [], "kept": []}
            triplets = 0
            for row in rows:
                if row["way"] == way and kind in ("all", KINDS[row["index"] % len(KINDS)]):
                    words = verdicts([Scores(*each) for each in row["scores"]], row["seeds"], settings_of(way))
                    candidates["drawn"] += row["drawn"]
                    candidates["right"] += row["right"]
                    candidates["kept"] += [word == "kept" for word in words]
                    triplets += 1
            right, kept = np.array(candidates["right"]), np.array(candidates["kept"])
            told = {
                "drawn": float(np.mean(candidates["drawn"])),
                "right": float(right.mean()),
                "kept": float(kept.sum() / triplets),
                "right_kept": float(right[kept].mean()) if kept.any() else float("nan"),
            }
            line += f"{told['drawn']:>8.1%}{told['right']:>8.1%}{told['kept']:>7.2f}{told['right_kept']:>8.1%} "
            totals[way] = told
        print(line)
    print("drawn, right: of all candidates; kept: pairs a triplet, of at most 4; right: of those")
    return totals


def contact_sheet(path: Path, rows: list[dict]) -> None:
    """A pair of each kind by each way: the one that the filter likes best, framed green if right and red if not."""
    size, gap, left = 96, 6, 230
    tall = 2 * size + 3 * gap
    sheet = Image.new("RGB", (left + len(WAYS) * (tall + 14), 24 + len(KINDS) * (size + 2 * gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, way in enumerate(WAYS):
        pen.text((left + column * (tall + 14) + tall // 2, 12), way, "black", anchor="mm", font_size=14)
    for line in range(len(KINDS)):
        top = 24 + line * (size + 2 * gap)
        told = open_triplet(line)
        words = [told.edit.original_prompt, told.edit.edit_prompt]
        pen.multiline_text((4, top + 8), "\n".join(wrapped(text, 36) for text in words), "black", font_size=11)
        for column, way in enumerate(WAYS):
            row = next(row for row in rows if row["way"] == way and row["index"] == line)
            best = int(np.argmax([score[3] for score in row["scores"]]))
            per_seed = WAYS[way][2]
            group = drawn(way, line)[1][best // per_seed]
            pair = group.source, group.targets[best % per_seed]
            x = left + column * (tall + 14)
            pen.rectangle((x, top, x + tall, top + size + gap), "#2a9d4a" if row["right"][best] else "#d03030")
            for at, picture in enumerate(pair):
                shown = Image.fromarray(picture).resize((size, size), Image.Resampling.NEAREST)
                sheet.paste(shown, (x + gap + at * (size + gap), top + gap // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def wrapped(text: str, width: int) -> str:
    """A text in lines."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += word + " "
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triplets", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="16 triplets, in a folder of their own")
    parser.add_argument("--folder", type=Path, default=Path("runs/shapes_pairs"))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--sheet", type=Path, help="write a pair of each kind by each way to this picture")
    arguments = parser.parse_args()
    count = 16 if arguments.quick else arguments.triplets
    tasks = [(way, index) for index in range(count) for way in DRAWN]
    with TemporaryDirectory() as aside:
        folder = Path(aside) if arguments.quick else arguments.folder
        rows = list(measured(tasks, folder / "candidates.jsonl", arguments.workers))
    totals = table(rows)
    if arguments.sheet:
        contact_sheet(arguments.sheet, rows)
    print(
        f"triplets={count} "
        + " ".join(
            f"{way}_right={told['right']:.3f} {way}_filtered={told['right_kept']:.3f} {way}_kept={told['kept']:.2f}"
            for way, told in totals.items()
        )
    )


if __name__ == "__main__":
    main()
