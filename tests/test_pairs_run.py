"""A run: what it leaves in its folder, whatever stops it on the way."""

import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from ip2p.training.pairs.local_engine import LocalEngine
from ip2p.training.pairs.maker import PairMaker
from ip2p.training.pairs.parts import Work
from ip2p.training.pairs.run import make_pairs
from tiny_runs import TRIPLETS, files, rows, tiny_settings

pytest_plugins = ["pairs_fixtures"]


class Counting(LocalEngine):
    """Counts what is asked of it, and stops where it is told to."""

    def __init__(self, stop_after: int | None = None, error: BaseException | None = None) -> None:
        self.made: list[int] = []
        self.stop_after = stop_after
        self.error = error

    def run(self, settings: object, work: Iterator[Work]) -> Iterator[tuple[int, pa.Table]]:
        for place, part in super().run(settings, work):  # type: ignore[arg-type]
            if len(self.made) == self.stop_after and self.error:
                raise self.error
            self.made.append(place)
            yield place, part


class Loaded(LocalEngine):
    """Has its models already, for processes forked from this one."""

    def __init__(self, maker: PairMaker) -> None:
        self.maker = maker

    def run(self, settings: object, work: Iterator[Work]) -> Iterator[tuple[int, pa.Table]]:
        return ((each.place, self.maker.make(*each)) for each in work)


@pytest.fixture(scope="module")
def undisturbed(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped, with blocks of three triplets."""
    folder = tmp_path_factory.mktemp("undisturbed") / "pairs"
    make_pairs(TRIPLETS, folder, tiny_settings(models), LocalEngine(), shard_triplets=3)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run; the card tells its name."""
    return tmp_path / "pairs"


def test_a_run_ends_with_shards_a_report_and_a_card(undisturbed: Path) -> None:
    assert set(files(undisturbed)) == {
        "settings.json", "report.json", "README.md",
        *(f"data/train-{block:05d}.parquet" for block in range(3)),
        *(f"candidates/{block:05d}.parquet" for block in range(3)),
    }  # fmt: skip
    made = rows(undisturbed)
    assert len(made) == len(TRIPLETS) * 6
    assert sum(row["verdict"] == "kept" for row in made) == 2 * len(TRIPLETS)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("The disk is full."), MemoryError("Too little.")])
def test_a_run_that_is_stopped_goes_on_from_there(
    models: dict[str, str], folder: Path, undisturbed: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        make_pairs(TRIPLETS, folder, tiny_settings(models), Counting(4, error), shard_triplets=3)
    assert len({row["triplet"] for row in rows(folder)}) == 4
    second = Counting()
    make_pairs(TRIPLETS, folder, tiny_settings(models), second, shard_triplets=3)
    assert second.made == [4, 5, 6, 7]
    assert files(folder) == files(undisturbed)
    third = Counting()
    make_pairs(TRIPLETS, folder, tiny_settings(models), third, shard_triplets=3)
    assert third.made == []


def test_killed_at_random_moments_it_ends_with_the_same_files(
    models: dict[str, str], folder: Path, undisturbed: Path
) -> None:
    fork = multiprocessing.get_context("fork")
    rng = random.Random(0)
    maker = PairMaker(tiny_settings(models))
    maker.make(0, TRIPLETS[0])
    start = time.perf_counter()
    maker.make(1, TRIPLETS[1])
    a_triplet = time.perf_counter() - start
    arguments = (TRIPLETS, folder, maker.settings, Loaded(maker), 3)
    kills = 0
    for _ in range(100):
        run = fork.Process(target=make_pairs, args=arguments)
        run.start()
        run.join(rng.uniform(0, 3 * a_triplet))
        if run.exitcode is not None:
            break
        assert run.pid is not None
        os.kill(run.pid, signal.SIGKILL)
        run.join()
        kills += 1
    assert run.exitcode == 0 and kills >= 2
    assert files(folder) == files(undisturbed)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounts a small disk, as root only can")
def test_a_full_disk_stops_the_run_with_a_sentence_and_room_lets_it_go_on(
    models: dict[str, str], folder: Path, undisturbed: Path
) -> None:
    disk = folder.parent
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72k", "tmpfs", disk]).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        with pytest.raises(OSError, match=r"There is no room for .*What is done is kept"):
            make_pairs(TRIPLETS, folder, tiny_settings(models), LocalEngine(), shard_triplets=3)
        done = {row["triplet"] for row in rows(folder)}
        assert 0 < len(done) < len(TRIPLETS)
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        second = Counting()
        make_pairs(TRIPLETS, folder, tiny_settings(models), second, shard_triplets=3)
        assert set(second.made) == set(range(len(TRIPLETS))) - done
        assert files(folder) == files(undisturbed)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_triplets_that_fail_are_reported_and_skipped(models: dict[str, str], folder: Path, undisturbed: Path) -> None:
    from ip2p.training.pairs.candidates import PairTriplet

    broken = [*TRIPLETS[:2], PairTriplet("a red circle", "", "a blue circle"), *TRIPLETS[3:]]
    report = make_pairs(broken, folder, tiny_settings(models), LocalEngine(), shard_triplets=3)
    assert (report["triplets"], report["failed"]) == (8, 1)
    assert report["problems"] == {"The triplet has no edit_prompt.": 1}
    assert [row for row in rows(folder) if row["triplet"] != 2] == [
        row for row in rows(undisturbed) if row["triplet"] != 2
    ]


def test_another_runs_folder_is_refused(models: dict[str, str], folder: Path) -> None:
    make_pairs(TRIPLETS[:1], folder, tiny_settings(models), LocalEngine())
    before = files(folder)
    with pytest.raises(ValueError, match="steps is 2, not 3"):
        make_pairs(TRIPLETS[:1], folder, tiny_settings(models, steps=3), LocalEngine())
    assert files(folder) == before


def test_batch_and_device_may_change_on_the_way(models: dict[str, str], folder: Path) -> None:
    make_pairs(TRIPLETS[:1], folder, tiny_settings(models), LocalEngine())
    engine = Counting()
    make_pairs(TRIPLETS[:2], folder, tiny_settings(models, batch_size=8, device=None), engine)
    assert engine.made == [1]


def test_models_are_not_loaded_where_nothing_is_to_do(
    models: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pairs(TRIPLETS[:1], folder, tiny_settings(models), LocalEngine())
    loaded = property(lambda _: pytest.fail("the model was loaded"))
    monkeypatch.setattr(PairMaker, "renderer", loaded)
    monkeypatch.setattr(PairMaker, "scorer", loaded)
    make_pairs(TRIPLETS[:1], folder, tiny_settings(models), LocalEngine())
