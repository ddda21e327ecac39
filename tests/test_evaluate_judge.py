"""A judge over a real service on this machine: both orders, answers kept, and what they mean."""

import json
from pathlib import Path

import pytest
from evaluate_data import Painted, metrics, samples, store, tasks
from ip2p.training.evaluate.judge import Judge, JudgeSettings, Question, both_orders, verdict, wins
from ip2p.training.evaluate.store import Store
from ip2p.training.evaluate.sweep import Sweep
from ip2p.training.instructions.budget import BudgetSpentError
from openai_faults import Faults
from openai_server import serving

OF = samples(4)


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    made = store(tmp_path)
    Sweep(made, metrics(), 4).run(tasks(0.3, 1.0, method=Painted()), OF)
    return made


def keys() -> tuple[str, str]:
    one, other = tasks(0.3, 1.0, method=Painted())
    return one.key, other.key


def test_pictures_are_asked_about_in_both_orders_and_once(kept: Store) -> None:
    questions = [question for sample in OF for question in both_orders(sample, *keys())]
    with serving(Faults(answer=json.dumps({"reason": "it is", "better": "first"}), rate_limited=0.3)) as service:
        judge = Judge(JudgeSettings(model="seer", base_url=service.url, backoff=0.01), kept)
        told = judge.ask(questions)
        assert told == {question.id: "first" for question in questions} and len(told) == 8
        again = Judge(JudgeSettings(model="seer", base_url=service.url), kept).ask(questions)
        assert again == told and sum(service.answered.values()) == 8
        bodies = list(service.bodies)
    asked = [body["messages"][0]["content"] for body in bodies]  # in any order: several are in flight
    pictures = [part["image_url"]["url"] for part in asked[0] if part["type"] == "image_url"]
    assert all(part["image_url"]["detail"] == "low" for part in asked[0] if part["type"] == "image_url")
    assert len(pictures) == 3 and all(url.startswith("data:image/png;base64,") for url in pictures)
    assert bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["better"]["enum"]
    assert all(any(sample.edit_prompt in each[0]["text"] for each in asked) for sample in OF)
    # One that always says "first" prefers none.
    assert wins(OF, *keys(), told).mean == 0.5


def test_limits_hold_and_what_was_answered_is_kept(kept: Store) -> None:
    questions = [question for sample in OF for question in both_orders(sample, *keys())]
    with serving(Faults(answer=json.dumps({"reason": "", "better": "tie"}))) as service:
        few = JudgeSettings(model="seer", base_url=service.url, max_requests=3)
        with pytest.raises(BudgetSpentError, match="--max-requests 3 is reached"):
            Judge(few, kept).ask(questions)
        assert len(Judge(JudgeSettings(model="seer", base_url=service.url), kept).ask(questions)) == 8
        assert sum(service.answered.values()) == 8


def test_who_is_preferred_in_both_orders_wins() -> None:
    one, other = keys()
    told = {}
    said = (("first", "second"), ("second", "first"), ("first", "first"), ("tie", "second"))
    for sample, answers in zip(OF, said, strict=True):
        for question, answer in zip(both_orders(sample, one, other), answers, strict=True):
            told[question.id] = answer
    assert [wins([sample], one, other, told).mean for sample in OF] == [1, 0, 0.5, 0.5]
    assert wins(OF, one, other, told).mean == 0.5


def test_an_answer_without_a_verdict_counts_for_none() -> None:
    for content in ("nothing", '{"better": "both"}', "[]"):
        assert verdict({"response": {"choices": [{"message": {"content": content}}]}}) is None
    assert verdict({"error": "refused"}) is None


def test_an_edit_that_is_not_made_is_told(kept: Store) -> None:
    judge = Judge(JudgeSettings(model="seer", base_url="http://127.0.0.1:9"), kept)
    with pytest.raises(ValueError, match="is not made yet"):
        judge.body(Question(OF[0], "nothing", "there"))
