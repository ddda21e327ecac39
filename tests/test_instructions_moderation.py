"""Moderation: the list of words, and the official client against a service on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ip2p.training.instructions.answers import Answers
from ip2p.training.instructions.moderation import listed_word
from ip2p.training.instructions.moderation_service import TEXTS_A_REQUEST, ModerationService
from ip2p.training.instructions.seeds import load_seeds
from ip2p.training.instructions.service import ServiceError, ServiceSettings
from openai_server import Faults, Service, serving

KEY = "sk-not-a-real-key"
TEXTS = [f"a calm lake number {n}" for n in range(100)]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Faults(key=KEY)) as service:
        yield service


def moderation(service: Service, file: Path) -> ModerationService:
    return ModerationService(ServiceSettings(model="tiny", base_url=service.url, backoff=0.01), Answers(file))


@pytest.mark.parametrize("text", ["a Nude on a sofa", "hard-core PORN", "a swastika, carved", "the ku klux klan"])
def test_listed_words_are_found_whole_and_in_any_case(text: str) -> None:
    assert listed_word(text)


@pytest.mark.parametrize("text", ["a lane in Essex", "grapes of Denude", "Scunthorpe at dusk", "cocktails"])
def test_words_within_words_are_not_meant(text: str) -> None:
    assert listed_word(text) is None


def test_our_seeds_hold_no_listed_word() -> None:
    training, held_out = load_seeds()
    texts = [f"{seed.original_prompt} {seed.edit_prompt} {seed.edited_prompt}" for seed in training + held_out]
    assert not list(filter(None, map(listed_word, texts)))


def test_the_service_is_asked_in_batches_and_never_twice(service: Service, tmp_path: Path) -> None:
    texts = [*TEXTS, "a scene of gore", *TEXTS[:3]]
    judged = moderation(service, tmp_path / "moderation.jsonl").judge(texts)
    assert [text for text, flags in zip(texts, judged, strict=True) if flags] == ["a scene of gore"]
    assert "violence" in judged[100]
    requests = sum(service.asked.values())
    assert requests == -(-101 // TEXTS_A_REQUEST)
    again = moderation(service, tmp_path / "moderation.jsonl")
    assert again.judge(texts) == judged
    assert sum(service.asked.values()) == requests
    again.judge(["something new"])
    assert sum(service.asked.values()) == requests + 1


def test_a_busy_and_failing_service_is_asked_until_it_answers(service: Service, tmp_path: Path) -> None:
    calm = moderation(service, tmp_path / "calm.jsonl").judge([*TEXTS, "gore"])
    service.faults = Faults(key=KEY, rate_limited=0.3, errors=0.3)
    assert moderation(service, tmp_path / "busy.jsonl").judge([*TEXTS, "gore"]) == calm


def test_a_service_that_refuses_is_told_without_the_key(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-secret")
    with pytest.raises(ServiceError, match="does not accept the key") as error:
        moderation(service, tmp_path / "moderation.jsonl").judge(TEXTS)
    assert "sk-wrong" not in str(error.value)
    assert "sk-wrong" not in (tmp_path / "moderation.jsonl").read_text()


def test_something_that_is_no_moderation_service_is_told(service: Service, tmp_path: Path) -> None:
    service.url = service.url.replace("/v1", "/page")
    with pytest.raises(ServiceError):
        moderation(service, tmp_path / "moderation.jsonl").judge(TEXTS)
