"""Samples of a dataset on the Hub: no more of it is read than is edited."""

import json
import os
import subprocess
import sys
from typing import Any

import datasets
import pytest
from evaluate_data import noise
from finetune_data import write_pairs
from loopback_datasets import hub
from pairs_data import encoded

FILES, EACH, SIDE = 40, 3, 300
README = """---
dataset_info:
  splits:
  - name: train
    num_examples: 120
configs:
- config_name: default
  data_files:
  - split: train
    path: train-*
---
"""
DRAW = """
import json, sys
from ip2p.training.evaluate import rows
from ip2p.training.evaluate.sources import open_samples
rows.BUFFER = 10
for draw in sys.argv[1:]:
    data, split, count, seed, turns = draw.split(":")
    samples = open_samples(data, split, int(count), int(seed), turns)
    told = [[each.id, each.edit_prompt, each.picture().tobytes().hex(), each.wanted().size] for each in samples]
    print(json.dumps(told))
"""
FORETELL = """
import sys
from ip2p.cli import main
for more in [["--num-samples", "7"], []]:
    code = main(["evaluate", "--data", "me/pairs", "--split", "train", "--clip-model", "shapes", "--dry-run",
        "--judge", "seer", "--methods", "ip2p,sdedit", "--base", "shapes", *more])
    if code:
        sys.exit(code)
    print("---")
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("hub")
    for number in range(FILES):
        path = folder / "me--pairs" / f"train-{number:05d}-of-{FILES:05d}.parquet"
        pictures = [encoded(noise(number * EACH + row, SIDE, SIDE)) for row in range(EACH)]
        write_pairs(path, EACH, each=1, original_image=pictures)
    (folder / "me--pairs" / "README.md").write_text(README)
    brush = {"img_id": ["7", "7"], "turn_index": [2, 1], "instruction": ["second", "first"]}
    pictures = {name: [{"bytes": encoded(noise(0)), "path": None}] * 2 for name in ("source_img", "target_img")}
    (folder / "me--brush").mkdir()
    datasets.Dataset.from_dict(brush | pictures).to_parquet(folder / "me--brush" / "test-00000-of-00001.parquet")
    with hub(folder) as server:
        yield server


def run(served: Any, program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env={**os.environ, **served.environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def drawn(served: Any) -> list[Any]:
    """Samples of four draws, of which two with one seed are in processes of their own."""
    pairs, sessions = "me/pairs:train:{}:single".format, "me/brush:test:1:0:multi"
    lines = run(served, DRAW, pairs("6:0"), pairs("6:1")) + run(served, DRAW, pairs("4:0"), sessions)
    return [json.loads(line) for line in lines.splitlines()]


def test_so_many_are_drawn_as_they_come(served: Any, drawn: list[Any]) -> None:
    whole = sum(path.stat().st_size for path in (served.root / "me--pairs").iterdir())
    one, other, fewer, _ = drawn
    assert len({picture for _, _, picture, _ in one}) == 6 and one[0][3] == [64, 64]
    assert fewer == one[:4] and [each[1:] for each in other] != [each[1:] for each in one]
    # By a name of their own: `row 0` is the whole dataset's first, if that is edited in the same folder.
    assert one[0][0] == "row 0 drawn by seed 0" and other[0][0] == "row 0 drawn by seed 1"
    assert served.sent < 3 * whole / 2


def test_of_sessions_whole_ones_are_drawn(drawn: list[Any]) -> None:
    assert [instruction for _, instruction, _, _ in drawn[3]] == ["first", "second"]


def test_a_dry_run_reads_no_picture(served: Any) -> None:
    before = served.sent
    some, told, _ = run(served, FORETELL).split("---\n")
    assert "SDEdit: 49 edits, 7 of each of 7 samples" in some
    assert "SDEdit: 840 edits, 7 of each of 120 samples" in told and "judge: 240 requests" in told
    assert served.sent - before < 20_000


def test_a_model_that_is_not_on_the_hub_is_told_before_anything_is_made(served: Any) -> None:
    arguments = ["evaluate", "--model", "nobody/nothing", "--clip-model", "shapes", "--dry-run"]
    command = [sys.executable, "-m", "ip2p.cli", *arguments]
    done = subprocess.run(command, env={**os.environ, **served.environment}, capture_output=True, text=True)
    assert done.returncode == 1 and "There is no model nobody/nothing here or on the Hub" in done.stderr
