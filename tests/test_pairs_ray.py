"""Workers of Ray: the same rows as one process makes, also where a worker is killed."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ip2p.training.pairs import ray_engine
from ip2p.training.pairs.local_engine import LocalEngine
from ip2p.training.pairs.ray_engine import RayEngine
from ip2p.training.pairs.run import make_pairs
from tiny_runs import TRIPLETS, files, rows, tiny_settings

pytest_plugins = ["pairs_fixtures"]
pytestmark = pytest.mark.slow  # Ray takes its time to start

CHECK = """
import os, signal
from pathlib import Path

def once(pictures):
    mark = Path(__file__).with_name("kill")
    if mark.exists():
        mark.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return [False] * len(pictures)

def always(pictures):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a module with NSFW checks that kill their own process, one of them where a file says so."""
    (tmp_path / "deadly.py").write_text(CHECK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_two_workers_of_which_one_is_killed_make_the_same_files(models: dict[str, str], checks: Path) -> None:
    settings = tiny_settings(models, nsfw_check="deadly:once")
    make_pairs(TRIPLETS, checks / "one" / "pairs", settings, LocalEngine(), shard_triplets=3)
    (checks / "kill").touch()
    make_pairs(TRIPLETS, checks / "two" / "pairs", settings, RayEngine(workers=2, gpus_per_worker=0), shard_triplets=3)
    assert not (checks / "kill").exists()
    assert not ray.is_initialized()
    assert files(checks / "two" / "pairs") == files(checks / "one" / "pairs")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of the test's own, with one CPU."""
    folder = tmp_path_factory.mktemp("checks")
    (folder / "deadly.py").write_text(CHECK)
    env = {"env_vars": {"PYTHONPATH": str(folder)}}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_worker_niceness", "0")
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=env)
    yield
    ray.shutdown()


def test_a_model_that_is_not_there_gets_its_sentence(cluster: None, models: dict[str, str], tmp_path: Path) -> None:
    settings = tiny_settings({**models, "model": "/nowhere"})
    with pytest.raises(OSError, match="There is no model folder /nowhere"):
        make_pairs(TRIPLETS, tmp_path, settings, RayEngine(gpus_per_worker=0))


def test_a_triplet_that_always_kills_its_worker_ends_the_run(
    cluster: None, models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "RETRIES", 1)  # each takes a worker's start
    settings = tiny_settings(models, nsfw_check="deadly:always")
    with pytest.raises(OSError, match=r"a worker that dies 2 times on one triplet.*What is done is kept"):
        make_pairs(TRIPLETS, tmp_path, settings, RayEngine(gpus_per_worker=0))


def test_a_running_cluster_is_left_as_it_is(cluster: None, models: dict[str, str], tmp_path: Path) -> None:
    make_pairs(TRIPLETS, tmp_path, tiny_settings(models), RayEngine(gpus_per_worker=0))
    assert len(rows(tmp_path)) == 6 * len(TRIPLETS)
    assert ray.is_initialized()
