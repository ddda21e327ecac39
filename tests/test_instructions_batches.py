"""The hosted model by the Batch API: whatever becomes of a batch, what it brings is kept and paid once."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hosted_client import ask, batch, chat, parsed, requests, stored
from ip2p.training.instructions.batches import BatchSettings, split
from ip2p.training.instructions.budget import BudgetSpentError
from ip2p.training.instructions.service import ServiceError
from openai_server import Faults, Service, serving

KEY = "sk-proj-0123456789abcdefSECRET"
CLIENT = Path(__file__).with_name("hosted_client.py")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def left_over(folder):
    """Requests that are still written beside the answers."""
    return list(folder.rglob("answers.jsonl.batches/*.jsonl"))


def test_batches_bring_what_the_chat_brings(tmp_path):
    with serving(Faults(key=KEY, truncated=0.1)) as service:
        backend = batch(service.url, batch_requests=20)
        answers = ask(backend, requests(50), tmp_path / "batch")
        assert len(service.batches) == 3
        assert {len(content.splitlines()) for name, content in service.files.values() if "batch" not in name} == {
            20,
            10,
        }
        expected = ask(chat(service.url), requests(50), tmp_path / "chat")
        assert backend.settings() == chat(service.url).settings()
        assert parsed(backend, requests(50), answers) == parsed(backend, requests(50), expected)
        assert stored(tmp_path / "batch") == stored(tmp_path / "chat")
    assert not left_over(tmp_path)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(batch="expired", batches=1),
        Faults(batch="cancelled", batches=1),
        Faults(lost=0.3, failing=0.3, batches=1),
        Faults(lost=0.5),
    ],
)
def test_what_a_batch_leaves_out_is_asked_again_and_nothing_else(faults, tmp_path):
    with serving(faults) as service:
        if faults.lost == 0.5:  # for good: what is drawn as lost stays lost
            with pytest.raises(ServiceError, match="without an answer"):
                ask(batch(service.url), requests(30), tmp_path)
            assert 0 < len(stored(tmp_path)) < 30
        else:
            assert len(ask(batch(service.url), requests(30), tmp_path)) == 30
            assert len(service.batches) == 2
        assert set(service.answered.values()) == {1}
    assert not left_over(tmp_path)


def test_a_failed_batch_ends_the_run_with_the_service_s_reason(tmp_path):
    with serving(Faults(batch="failed", batches=1)) as service:
        with pytest.raises(ServiceError, match=r"failed a batch .This line is not parseable as valid JSON"):
            ask(batch(service.url, batch_requests=10), requests(20), tmp_path)
        assert len(stored(tmp_path)) == 10
        assert len(ask(batch(service.url, batch_requests=10), requests(20), tmp_path)) == 20
        assert set(service.answered.values()) == {1}


def test_a_full_queue_is_tried_again_once_other_batches_have_ended(tmp_path):
    with serving(Faults(batch="token_limit_exceeded", batches=1)) as service:
        assert len(ask(batch(service.url, batch_requests=10), requests(20), tmp_path)) == 20
        assert set(service.answered.values()) == {1}
    says = r"without an answer .Enqueued token limit reached"
    with serving(Faults(batch="token_limit_exceeded")) as service, pytest.raises(ServiceError, match=says):
        ask(batch(service.url), requests(20), tmp_path / "full")


def test_a_batch_whose_making_got_no_response_is_found_again(tmp_path):
    with serving(Faults(dies_after_create=True)) as service:
        assert len(ask(batch(service.url, batch_requests=10), requests(30), tmp_path)) == 30
        assert len(service.batches) == 3
        assert set(service.answered.values()) == {1}


def test_limits_hold_for_batches(tmp_path):
    with serving() as service:
        for limit in (7, 12):
            with pytest.raises(BudgetSpentError, match=f"--max-requests {limit} is reached"):
                ask(batch(service.url, max_requests=limit), requests(20), tmp_path)
            assert sum(service.answered.values()) == limit
        prices = {"price_prompt": 1000.0, "price_completion": 4000.0}
        backend = batch(service.url, max_cost=40.0, **prices)
        with pytest.raises(BudgetSpentError, match="of --max-cost 40 is spent"):
            ask(backend, requests(200), tmp_path)
        usage = [answer["response"]["usage"] for answer in stored(tmp_path).values()]
        assert 30 < sum(backend.hosted.cost(each["prompt_tokens"], each["completion_tokens"]) for each in usage) <= 40
        assert set(service.answered.values()) == {1}


def started(service: Service, folder: Path) -> subprocess.Popen:
    command = [sys.executable, str(CLIENT), "batch", service.url, str(folder), "30"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_watching_its_batches(sign, tmp_path):
    with serving(Faults(batch_polls=10**9)) as service:
        with started(service, tmp_path) as client:
            end = time.monotonic() + 60
            while not any(each["polls"] for each in service.batches.values()):
                assert time.monotonic() < end
                time.sleep(0.01)
            client.send_signal(sign)
            _, errors = client.communicate(timeout=60)
        assert ("go on at the service" in errors) == (sign == signal.SIGINT)
        service.faults = Faults()
        assert len(ask(batch(service.url), requests(30), tmp_path)) == 30
        assert len(service.batches) == 1


def test_a_kill_between_making_a_batch_and_noting_it_pays_once(tmp_path):
    with serving() as service:
        ask(batch(service.url, batch_requests=10), requests(30), tmp_path)
        folder = tmp_path / "answers.jsonl.batches"
        # Back to the moment after the second batch was made: its requests are on disk, its id is not, nothing is read.
        state = json.loads((folder / "state.json").read_bytes())
        for name, noted in state.items():
            sent = service.files[service.batches[name]["input_file_id"]][1]
            (folder / f"{noted['requests']}.jsonl").write_bytes(sent)
        first = next(iter(state))
        (folder / "state.json").write_text(json.dumps({first: state[first] | {"read": False}}))
        before = stored(tmp_path)
        (tmp_path / "answers.jsonl").unlink()
        assert len(ask(batch(service.url, batch_requests=10), requests(30), tmp_path)) == 30
        assert stored(tmp_path) == before
        assert len(service.batches) == 3


def test_a_kill_after_a_batch_was_read_pays_once(tmp_path):
    with serving() as service:
        ask(batch(service.url, batch_requests=10), requests(20), tmp_path)
        # Back to the moment before the requests of batches that are read were removed.
        folder = tmp_path / "answers.jsonl.batches"
        for name, noted in json.loads((folder / "state.json").read_bytes()).items():
            sent = service.files[service.batches[name]["input_file_id"]][1]
            (folder / f"{noted['requests']}.jsonl").write_bytes(sent)
        assert len(ask(batch(service.url, batch_requests=10), requests(25), tmp_path)) == 25
        assert len(service.batches) == 3
        assert set(service.answered.values()) == {1}
    assert not left_over(tmp_path)


def test_lines_are_split_by_both_limits():
    lines = [b"x" * size for size in (5, 5, 5, 20, 1, 1, 1, 1)]
    assert [list(map(len, group)) for group in split(lines, 3, 12)] == [[5, 5], [5], [20], [1, 1, 1], [1]]
    with pytest.raises(ValueError, match="--batch-requests must be from 1 to 50000"):
        BatchSettings(model="tiny", batch_requests=50_001)


def test_a_key_is_in_no_file_message_or_log_of_batches(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(Faults(failing=0.5)) as service, pytest.raises(ServiceError) as caught:
        ask(batch(service.url), requests(20), tmp_path)
    files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert os.environ["OPENAI_API_KEY"] == KEY
    assert KEY not in caplog.text + str(caught.value)
    assert KEY.encode() not in files
