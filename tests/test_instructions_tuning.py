"""Fine-tuning at a service: one job whatever happens on the way, followed to its end."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hosted_client import PATIENCE, seeds
from ip2p.training.instructions.service import ServiceError
from ip2p.training.instructions.tuning import TuningSettings, tune
from openai_server import Faults, Service, serving

KEY = "sk-proj-0123456789abcdefSECRET"
CLIENT = Path(__file__).with_name("hosted_client.py")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def tuned(service: Service, folder: Path, count: int = 20, told: list[str] | None = None, **settings) -> str:
    """Tune and give the model's name."""
    given = TuningSettings(base_url=service.url, poll_every=0.01, **PATIENCE | settings)
    return tune(given, seeds(count), seeds(24)[20:], folder, tell=[].append if told is None else told.append)


def test_a_model_is_tuned_on_the_seeds_and_its_name_kept(tmp_path):
    told: list[str] = []
    with serving(Faults(key=KEY, batch_polls=5)) as service:
        name = tuned(service, tmp_path, told=told, epochs=1, suffix="ip2p")
        assert name == "ft:tiny:org::ftjob-0"
        assert json.loads((tmp_path / "tuning.json").read_bytes())["model"] == name
        job = service.jobs["ftjob-0"]
        assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}
        lines = [json.loads(line) for line in service.files[job["training_file"]][1].splitlines()]
        assert [len(line["messages"]) for line in lines] == [3] * 20
        assert len(service.files[job["validation_file"]][1].splitlines()) == 4
        assert told == [event["message"] for event in job["told"]]
        assert tuned(service, tmp_path, epochs=1, suffix="ip2p") == name
        assert len(service.jobs) == 1


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        (Faults(tuning="closing"), r"does not tune tiny .*Fine-tuning is closing.* tune a model on this machine"),
        (Faults(tuning="not_tunable"), r"does not tune tiny .*not available for fine-tuning.* --model"),
        (Faults(tuning="absent"), r"This service does not fine-tune .*Not Found.* --base-url"),
        (Faults(tuning="failed"), r"fine-tuning of tiny failed .The training file was turned down"),
        (Faults(tuning="cancelled"), r"fine-tuning of tiny was cancelled .no reason told"),
    ],
)
def test_a_service_that_does_not_tune_says_why_and_may_be_asked_again(faults, says, tmp_path):
    with serving(faults) as service:
        with pytest.raises(ServiceError, match=says):
            tuned(service, tmp_path)
        if faults.tuning in ("closing", "absent"):
            assert service.jobs == {}
        service.faults = Faults()
        assert tuned(service, tmp_path).startswith("ft:tiny")


def test_too_few_seeds_are_told_before_anything_is_sent(tmp_path):
    with serving() as service:
        with pytest.raises(ValueError, match="at least 10 seed triplets, not 9"):
            tuned(service, tmp_path, count=9)
        assert service.files == {}


def test_a_folder_tunes_one_model_on_one_set_of_seeds(tmp_path):
    with serving() as service:
        tuned(service, tmp_path)
        with pytest.raises(ValueError, match="choose another folder"):
            tuned(service, tmp_path, count=15)


def test_a_job_whose_making_got_no_response_is_found_again(tmp_path):
    with serving(Faults(dies_after_create=True)) as service:
        assert tuned(service, tmp_path) == "ft:tiny:org::ftjob-0"
        assert len(service.jobs) == 1


def test_a_kill_between_making_a_job_and_noting_it_makes_no_second_one(tmp_path):
    with serving() as service:
        name = tuned(service, tmp_path)
        (tmp_path / "tuning.json").unlink()
        assert tuned(service, tmp_path) == name
        assert len(service.jobs) == 1


def test_a_killed_watcher_goes_on_with_the_same_job_and_tells_each_event_once(tmp_path):
    with serving(Faults(batch_polls=10**9)) as service:
        command = [sys.executable, str(CLIENT), "tune", service.url, str(tmp_path), "20"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout
            told = [client.stdout.readline().strip() for _ in range(4)][1:]
            client.kill()
            told += client.stdout.read().splitlines()
        service.faults = Faults(batch_polls=1)
        given = TuningSettings(base_url=service.url, poll_every=0.1, **PATIENCE)
        assert tune(given, seeds(20), [], tmp_path, tell=told.append) == "ft:tiny:org::ftjob-0"
        assert len(service.jobs) == 1
        events = [event["message"] for event in service.jobs["ftjob-0"]["told"]]
        assert list(dict.fromkeys(told)) == events
        assert len(told) <= len(events) + 1  # the kill may fall between telling an event and noting it


def test_a_key_is_in_no_file_message_or_log_of_a_tuning(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(Faults(key="another")) as service:
        with pytest.raises(ServiceError, match="does not accept the key") as caught:
            tuned(service, tmp_path)
        service.faults = Faults()
        tuned(service, tmp_path)
    assert KEY not in caplog.text + str(caught.value)
    assert KEY.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
