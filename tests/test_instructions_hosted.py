"""The hosted model by its chat API: the official client against a real server with every fault."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from hosted_client import ask, chat, parsed, requests, stored
from ip2p.training.instructions.answers import Answers
from ip2p.training.instructions.hosted import HostedSettings
from ip2p.training.instructions.service import ATTEMPTS, ServiceError, retry_after
from openai_server import Faults, Service, serving

KEY = "sk-proj-0123456789abcdefSECRET"
CLIENT = Path(__file__).with_name("hosted_client.py")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def test_answers_are_stored_as_they_came_and_read_afterwards(tmp_path):
    with serving(Faults(key=KEY, latency=0.05)) as service:
        backend = chat(service.url)
        answers = ask(backend, requests(24), tmp_path)
    assert service.most_in_flight == 8
    assert set(service.answered.values()) == {1}
    response = answers[requests(1)[0].id]["response"]
    assert response["choices"][0]["finish_reason"] == "stop"
    assert response["usage"]["completion_tokens"] == 30
    for request, (instruction, edited, kind, _) in zip(
        requests(24), parsed(backend, requests(24), answers), strict=True
    ):
        assert instruction.startswith("give it a ")
        assert edited.startswith(request.caption.text)
        assert kind in request_kinds(service, request)
    bodies = {body["messages"][-1]["content"]: body for body in service.bodies}
    assert len({body["seed"] for body in bodies.values()}) == 24
    assert {(body["temperature"], body["max_tokens"], len(body["messages"])) for body in bodies.values()} == {
        (0.7, 256, 14)
    }


def request_kinds(service, request):
    """The kinds that the service was offered for a request."""
    asked = next(m for body in service.bodies if request.caption.text in (m := body["messages"][-1]["content"]))
    return asked.splitlines()[0].removeprefix("Kinds: ").split(", ")


def test_whatever_fails_on_the_way_the_answers_are_the_same_and_each_is_paid_once(tmp_path):
    with serving() as calm:
        backend = chat(calm.url)
        expected = parsed(backend, requests(40), ask(backend, requests(40), tmp_path / "calm"))
    with serving(Faults(rate_limited=0.2, errors=0.15, drops=0.15, latency=0.002)) as rough:
        backend = chat(rough.url, concurrency=5)
        assert parsed(backend, requests(40), ask(backend, requests(40), tmp_path / "rough")) == expected
        assert sum(rough.asked.values()) > 50
        assert set(rough.answered.values()) == {1}
        ask(backend, requests(40), tmp_path / "rough")
        assert set(rough.answered.values()) == {1}


def test_what_is_wrong_with_an_answer_is_named_and_the_answer_kept(tmp_path):
    with serving(Faults(truncated=0.2, malformed=0.2, refused=0.2, empty=0.1, fenced=0.1)) as service:
        backend = chat(service.url)
        results = parsed(backend, requests(40), ask(backend, requests(40), tmp_path))
    assert {result for result in results if isinstance(result, str)} == {"truncated", "malformed", "refused", "empty"}
    assert sum(isinstance(result, tuple) for result in results) > 5
    assert len(stored(tmp_path)) == 40


def test_a_prompt_that_the_service_filters_is_a_refusal_and_not_the_end(tmp_path):
    with serving(Faults(filtered="A 3-masted")) as service:
        backend = chat(service.url, max_cost=1e6, price_prompt=1.0, price_completion=1.0)
        results = parsed(backend, requests(6), ask(backend, requests(6), tmp_path))
    assert [result == "refused" for result in results] == [i == 3 for i in range(6)]


def test_nothing_is_sent_before_retry_after_is_over(tmp_path):
    with serving(Faults(rate_limited=1, times=1, retry_after="1")) as service:
        ask(chat(service.url, concurrency=4), requests(4), tmp_path)
    gaps = [later - earlier for earlier, later in zip(service.times, service.times[1:], strict=False)]
    assert len(service.times) == 8
    assert max(gaps) > 0.95


def test_retry_after_is_read_in_each_of_its_forms():
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=500), usegmt=True)
    assert retry_after({"retry-after": "500"}) == 500
    assert retry_after({"retry-after-ms": "1500", "retry-after": "2"}) == 1.5
    assert 495 < retry_after({"retry-after": soon}) < 501
    assert [retry_after({"retry-after": text}) for text in ("", "nan", "inf", "-3", "soon")] == [0] * 5


def test_a_retry_after_of_minutes_is_waited_for_and_told_and_of_days_ends_the_run(tmp_path, caplog):
    with serving(Faults(rate_limited=1, retry_after="600")) as service:
        with started("chat", service, tmp_path, 3) as client:
            wait_for(lambda: service.times)
            time.sleep(2)
            client.send_signal(signal.SIGINT)
            _, errors = client.communicate(timeout=60)
        assert len(service.times) <= 3
        assert "The service asks to wait until" in errors
    with serving(Faults(rate_limited=1, retry_after="200000")) as service:
        with pytest.raises(ServiceError, match="come back in 56 hours"):
            ask(chat(service.url, concurrency=1), requests(3), tmp_path)
        assert len(service.times) == 1


def test_an_answer_that_never_comes_is_asked_for_again(tmp_path):
    with serving(Faults(hangs=1, times=1)) as service:
        assert len(ask(chat(service.url, timeout=1.0), requests(2), tmp_path)) == 2
        assert len(service.times) == 4


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        ({"status": 401, "code": "invalid_api_key", "message": f"Incorrect key {KEY}"}, "does not accept the key"),
        ({"status": 403, "message": "Country not supported."}, r"may not use tiny here \(HTTP 403: Country"),
        ({"status": 404, "code": "model_not_found", "message": "No such model"}, "knows no model tiny"),
        ({"status": 402, "message": f"{KEY} has no credit"}, r"turns the request away \(HTTP 402: \(the key\) has no"),
        ({"status": 400, "message": "json_schema\nis unknown"}, r"\(HTTP 400: json_schema is unknown\)"),
        ({"status": 429, "code": "insufficient_quota", "message": "Add credit"}, "quota is used up"),
    ],
)
def test_what_asking_again_won_t_help_ends_the_run_at_once(refusal, says, tmp_path):
    with serving(Faults(refusal=refusal)) as service:
        with pytest.raises(ServiceError, match=says) as caught:
            ask(chat(service.url, concurrency=2), requests(30), tmp_path)
        assert sum(service.asked.values()) <= 2
    assert KEY not in str(caught.value)
    assert stored(tmp_path) == {}


@pytest.mark.parametrize(("faults", "path"), [(Faults(errors=1), "/v1"), (Faults(drops=1), "/v1"), (Faults(), "/page")])
def test_a_service_that_always_fails_is_given_up(faults, path, tmp_path):
    with serving(faults) as service:
        with pytest.raises(ServiceError, match=f"failed {ATTEMPTS} times in a row .* run again to go on") as caught:
            ask(chat(service.url.replace("/v1", path), concurrency=1), requests(3), tmp_path)
        assert sum(service.asked.values()) == (ATTEMPTS if path == "/v1" else 0)
    assert KEY not in str(caught.value)


def test_where_nobody_listens_a_sentence_says_so(tmp_path):
    with pytest.raises(ServiceError, match=r"refused|failed"):
        ask(chat("http://127.0.0.1:9/v1"), requests(1), tmp_path)


def test_one_request_that_always_fails_does_not_hold_up_the_others(tmp_path):
    with serving(Faults(poison="A 2-masted", latency=0.01)) as service:
        with pytest.raises(ServiceError, match=r"1 requests got no answer; the first: .* The others are answered"):
            ask(chat(service.url), requests(60), tmp_path)
        assert len(stored(tmp_path)) == 59


def test_requests_in_flight_are_kept_when_the_run_ends(tmp_path):
    with serving(Faults(latency=0.1)) as service, pytest.raises(ValueError, match="--max-requests"):
        ask(chat(service.url, max_requests=8), requests(20), tmp_path)
    assert len(stored(tmp_path)) == sum(service.answered.values()) == 8


def test_a_missing_or_damaged_key_or_address_is_told_before_anything_is_asked(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--base-url must be an address"):
        ask(chat("127.0.0.1:80"), requests(1), tmp_path)
    with pytest.raises(ValueError, match="must not hold a name or a password") as caught:
        ask(chat(f"http://user:{KEY}@127.0.0.1:1/v1"), requests(1), tmp_path)
    assert KEY not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-né\n")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters") as caught:
        ask(chat("http://127.0.0.1:1/v1"), requests(1), tmp_path)
    assert "sk-n" not in str(caught.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="set the environment variable OPENAI_API_KEY"):
        HostedSettings(model="tiny").client_options()
    with serving() as service:
        assert len(ask(chat(service.url), requests(1), tmp_path)) == 1


@pytest.mark.parametrize("name", ["timeout", "backoff", "max_tokens", "examples", "concurrency"])
def test_settings_without_meaning_are_told_by_their_flag(name):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must be"):
        HostedSettings(model="tiny", **{name: -1})


def test_a_key_is_in_no_file_message_or_log(tmp_path, monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    secret = f"{KEY}-other"
    with serving(Faults(errors=0.5, truncated=0.3)) as service:
        monkeypatch.setenv("OPENAI_API_KEY", secret)
        backend = chat(service.url)
        ask(backend, requests(10), tmp_path)
        service.faults = Faults(key=KEY)
        with pytest.raises(ServiceError) as caught:
            ask(backend, requests(20), tmp_path)
        service.faults = Faults(errors=1)
        with pytest.raises(ServiceError) as given_up:
            ask(backend, requests(20), tmp_path)
    files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    told = "".join((*capfd.readouterr(), caplog.text, str(backend.settings()), str(caught.value), str(given_up.value)))
    assert "(the key)" in str(given_up.value)
    assert len(files) > 1000
    assert secret not in told
    assert secret.encode() not in files


def test_answers_depend_on_the_settings_that_they_are_kept_apart_by():
    base = chat("http://127.0.0.1:1/v1").settings()
    assert chat("http://127.0.0.1:2/v1", concurrency=2, max_requests=3, timeout=9.0).settings() == base
    for changed in ({"model": "other"}, {"temperature": 0.1}, {"max_tokens": 9}, {"examples": 2}):
        assert chat("http://127.0.0.1:1/v1", **changed).settings() != base


def started(kind: str, service: Service, folder: Path, count: int) -> subprocess.Popen:
    """A client in a process of its own, once it has loaded its libraries."""
    command = [sys.executable, str(CLIENT), kind, service.url, str(folder), str(count)]
    client = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OPENAI_API_KEY": KEY}
    )
    assert client.stdout and client.stdout.readline() == "ready\n"
    return client


def wait_for(happens, seconds=60):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_at_any_moment_asks_again_only_for_what_was_in_flight(sign, tmp_path):
    chance = random.Random(sign)
    with serving(Faults(errors=0.1, latency=0.05)) as service:
        for _ in range(2):
            goal = sum(service.answered.values()) + chance.randrange(5, 25)
            with started("chat", service, tmp_path, 80) as client:
                wait_for(lambda goal=goal: sum(service.answered.values()) >= goal)
                client.send_signal(sign)
                assert client.wait(60) != 0
            wait_for(lambda: not service.in_flight)
        kept = stored(tmp_path)
        assert len(kept) >= sum(service.answered.values()) - 2 * 8
        ask(chat(service.url), requests(80), tmp_path)
        assert sum(service.answered.values()) - 80 <= 2 * 8
        assert {name: stored(tmp_path)[name] for name in kept} == kept
        undisturbed = ask(chat(service.url), requests(80), tmp_path / "undisturbed")
        again = Answers(tmp_path / "answers.jsonl")
        assert [again[request.id] for request in requests(80)] == [undisturbed[r.id] for r in requests(80)]
