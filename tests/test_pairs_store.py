"""The folder of a run: blocks, stops anywhere, other runs' folders, and what `datasets` makes of it."""

import errno
import json
import os
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from ip2p.training.pairs.features import CANDIDATES, EXAMPLES, KEPT, PART
from ip2p.training.pairs.run_folder import stored_parts
from ip2p.training.pairs.store import Store
from pairs_data import SETTINGS, edits, failed, make_run, part, triplet, triplets

COUNT = 10


def files(folder: Path) -> dict[str, bytes]:
    """What a run leaves."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def parts_of(count: int) -> list[pa.Table]:
    return [part(place, edit) for place, edit in enumerate(edits(count))]


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_run_becomes_examples_and_candidates(tmp_path: Path) -> None:
    make_run(tmp_path, COUNT)
    assert sorted(files(tmp_path)) == [
        *("README.md", "candidates/00000.parquet", "candidates/00001.parquet", "candidates/00002.parquet"),
        *("data/train-00000.parquet", "data/train-00001.parquet", "data/train-00002.parquet"),
        *("report.json", "settings.json"),
    ]
    made = rows(tmp_path)
    expected = {(triplet(edit).id, row["number"]): row for edit, each in zip(edits(COUNT), parts_of(COUNT), strict=True)
                for row in each.to_pylist() if row["verdict"] == KEPT}  # fmt: skip
    assert {(row["triplet_id"], row["candidate"]) for row in made} == set(expected)
    for row in made:
        there = expected[row["triplet_id"], row["candidate"]]
        assert all(row[name] == there[name] for name in ("seed", "p", "guidance_scale", "directional_similarity"))
        assert row["edited_image"]["bytes"] == there["edited_image"]
        assert (row["mask"] or {}).get("bytes") == there["mask"]
        assert row["source"] == "paper"
    assert {row["triplet_id"]: row["inverse_prompt"] for row in made}.items() <= {
        each.id: each.inverse_prompt for each in triplets(COUNT)
    }.items()
    assert [row["triplet_id"] for row in made] == sorted(
        (row["triplet_id"] for row in made), key=[each.id for each in triplets(COUNT)].index
    )
    for _, each in groupby(made, key=lambda row: row["triplet_id"]):
        scores = [row["directional_similarity"] for row in each]
        assert scores == sorted(scores, reverse=True)
    candidates = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "candidates").iterdir()))
    assert candidates.schema.equals(CANDIDATES)
    assert candidates.equals(pa.concat_tables(each.select(CANDIDATES.names) for each in parts_of(COUNT)))


def test_datasets_loads_the_folder(tmp_path: Path) -> None:
    folder, cache = tmp_path / "run", str(tmp_path / "cache")
    make_run(folder, COUNT)
    by_folder = load_dataset(str(folder), split="train", cache_dir=cache)
    by_files = load_dataset("parquet", data_files=str(folder / "data" / "*.parquet"), split="train", cache_dir=cache)
    assert by_folder.features == by_files.features == EXAMPLES
    assert len(by_folder) == len(by_files) == len(rows(folder))
    assert by_folder[0]["original_image"].size == (64, 64)
    masked = next(row for row in by_folder if row["mask"] is not None)
    assert set(np.unique(np.asarray(masked["mask"]))) <= {0, 255}
    assert any(row["mask"] is None for row in by_folder)


def test_the_order_of_parts_changes_nothing(tmp_path: Path) -> None:
    make_run(tmp_path / "one", COUNT)
    made = parts_of(COUNT)
    with Store(tmp_path / "two", triplets(COUNT), SETTINGS, 4) as store:
        for place in (7, 3, 9, 0, 2, 8, 1, 6, 5, 4):
            store.add(place, made[place])
        store.add(3, made[3])
        store.finish()
    assert files(tmp_path / "one") == {**files(tmp_path / "two"), "README.md": files(tmp_path / "one")["README.md"]}


class Killed(BaseException):
    """As a kill: nothing after it runs."""


def test_killed_anywhere_it_ends_with_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "whole" / "run", COUNT)
    whole = files(tmp_path / "whole" / "run")
    folder = tmp_path / "killed" / "run"
    made = parts_of(COUNT)
    replace, unlink = os.replace, Path.unlink
    left = 0

    def act() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    def killing_replace(self: Path, target: Path) -> Path:
        act()
        replace(self, target)
        act()
        return Path(target)

    def killing_unlink(self: Path, missing_ok: bool = False) -> None:
        if not self.name.endswith(".partial"):  # what a kill leaves stays
            act()
            unlink(self, missing_ok)

    monkeypatch.setattr(Path, "replace", killing_replace)
    monkeypatch.setattr(Path, "unlink", killing_unlink)
    for kills in range(100):
        left = 2 + kills % 5
        try:
            with Store(folder, triplets(COUNT), SETTINGS, 4) as store:
                for place in store.pending():
                    store.add(place, made[place])
                store.finish()
            break
        except Killed:
            assert json.loads((folder / "settings.json").read_text())["num_triplets"] == COUNT
    assert kills > 5
    there = {name: content for name, content in files(folder).items() if not name.endswith(".partial")}
    assert there == whole


def test_pictures_that_were_taken_away_are_asked_for_again(tmp_path: Path) -> None:
    make_run(tmp_path, COUNT)
    whole = files(tmp_path)
    (tmp_path / "data" / "train-00001.parquet").unlink()
    with Store(tmp_path, triplets(COUNT), SETTINGS, 4) as store:
        assert store.pending() == [4, 5, 6, 7]
        for place in (4, 5, 6, 7):
            store.add(place, parts_of(COUNT)[place])
        store.finish()
    assert files(tmp_path) == whole


def test_done_places_are_not_asked_for_again(tmp_path: Path) -> None:
    made = parts_of(COUNT)
    with Store(tmp_path, triplets(COUNT), SETTINGS, 4) as store:
        assert store.pending() == list(range(COUNT))
        for place in (0, 1, 2, 3, 6):
            store.add(place, made[place])
        report = store.finish()
    assert report["triplets"] == 5 and report["examples"] == len(rows(tmp_path)) < COUNT * 3
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["00000006.parquet"]
    with Store(tmp_path, triplets(COUNT), SETTINGS, 4) as store:
        assert store.pending() == [4, 5, 7, 8, 9]


def test_another_runs_folder_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path, COUNT)
    with pytest.raises(ValueError, match=r"holds another run \(steps is 4, not 5\): give the same settings"):
        Store(tmp_path, triplets(COUNT), SETTINGS | {"steps": 5}, 4).pending()
    with pytest.raises(ValueError, match=r"\(shard_triplets is 4, not 5\)"):
        Store(tmp_path, triplets(COUNT), SETTINGS, 5).pending()
    with pytest.raises(ValueError, match=r"\(its triplets are others\)"):
        Store(tmp_path, triplets(COUNT, seed=1), SETTINGS, 4).pending()
    with pytest.raises(ValueError, match="its triplets are others"):
        Store(tmp_path, triplets(COUNT - 1), SETTINGS, 4).pending()
    (tmp_path / "settings.json").write_text("[")
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        Store(tmp_path, triplets(COUNT), SETTINGS, 4).pending()
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ValueError, match="holds data but no settings of a run"):
        Store(tmp_path, triplets(COUNT), SETTINGS, 4).pending()


def test_a_run_grows_by_further_triplets(tmp_path: Path) -> None:
    make_run(tmp_path / "whole" / "run", COUNT)
    folder = tmp_path / "grown" / "run"
    make_run(folder, 6)
    made = parts_of(COUNT)
    with Store(folder, triplets(COUNT), SETTINGS, 4) as store:
        assert store.pending() == [6, 7, 8, 9]
        for place in store.pending():
            store.add(place, made[place])
        store.finish()
    assert files(folder) == files(tmp_path / "whole" / "run")


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        Store(tmp_path, triplets(COUNT), SETTINGS, 4),
        pytest.raises(OSError, match="Another run is at work"),
        Store(tmp_path, triplets(COUNT), SETTINGS, 4),
    ):
        pass
    with Store(tmp_path, triplets(COUNT), SETTINGS, 4) as store:
        assert store.pending()


@pytest.mark.parametrize("sync", range(8))
def test_a_full_disk_is_told_and_what_is_done_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: int) -> None:
    made = parts_of(4)
    fsync, calls = os.fsync, 0

    def full(file: int) -> None:
        nonlocal calls
        calls += 1
        if calls == sync + 2:  # not that of the settings
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    store = Store(tmp_path, triplets(4), SETTINGS, 2)
    with pytest.raises(OSError, match=r"There is no room for .*: free some, then run the same command again"):
        for place in store.pending():
            store.add(place, made[place])
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.partial"))
    store = Store(tmp_path, triplets(4), SETTINGS, 2)
    for place in store.pending():
        store.add(place, made[place])
    assert store.finish()["triplets"] == 4
    assert len(rows(tmp_path)) == sum(each["verdict"].to_pylist().count(KEPT) for each in made)


def test_failed_triplets_are_counted_and_make_no_examples(tmp_path: Path) -> None:
    drawn = edits(3)
    store = Store(tmp_path, [triplet(edit) for edit in drawn], SETTINGS)
    store.add(0, part(0, drawn[0], kept=2))
    store.add(1, failed(1, drawn[1]))
    store.add(2, part(2, drawn[2], kept=0))
    report = store.finish()
    assert report | {"verdicts": None, "kinds": None} == {
        **{"triplets": 3, "failed": 1, "with_pairs": 1, "candidates": 12, "kept": 2, "examples": 2},
        **{"problems": {"A picture is not finite.": 1}, "verdicts": None, "kinds": None},
    }
    assert sum(report["verdicts"].values()) == 12 and report["kinds"] == {drawn[0].kind: 2}
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_blocks_without_any_pair_load(tmp_path: Path) -> None:
    drawn = edits(4)
    store = Store(tmp_path / "run", [triplet(edit) for edit in drawn], SETTINGS, 2)
    for place, edit in enumerate(drawn):
        store.add(place, failed(place, edit) if place < 2 else part(place, edit, kept=1))
    store.finish()
    loaded = load_dataset(str(tmp_path / "run"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 2 and loaded.features == EXAMPLES


def test_parts_come_back_as_they_were(tmp_path: Path) -> None:
    made = parts_of(COUNT)
    made[5] = failed(5, edits(COUNT)[5])
    store = Store(tmp_path, triplets(COUNT), SETTINGS, 4)
    for place in (0, 1, 2, 3, 4, 5, 6, 7, 9):
        store.add(place, made[place])
    there = dict(stored_parts(tmp_path))
    assert list(there) == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert all(table.schema.equals(PART) and table.equals(made[place].cast(PART)) for place, table in there.items())


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    made = parts_of(4)
    store = Store(tmp_path, triplets(4), SETTINGS, 4)
    for place in range(3):
        store.add(place, made[place])
    (tmp_path / "parts" / "00000001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"00000001\.parquet is damaged or no Parquet file: remove it"):
        store.add(3, made[3])
    (tmp_path / "parts" / "00000001.parquet").unlink()
    again = Store(tmp_path, triplets(4), SETTINGS, 4)
    assert again.pending() == [1]
    again.add(1, made[1])
    assert (tmp_path / "candidates" / "00000.parquet").exists()


def test_large_pictures_are_written_in_small_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ip2p.training.pairs.shards.BYTES", 1000)
    make_run(tmp_path, 8, 8)
    metadata = pq.read_metadata(tmp_path / "data" / "train-00000.parquet")
    assert metadata.num_row_groups > 2
    assert metadata.num_rows == len(rows(tmp_path))
