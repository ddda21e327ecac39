"""What asking costs, before and while it is asked."""

import pytest
from hosted_client import ask, chat, requests
from ip2p.training.instructions.answers import Answers
from ip2p.training.instructions.budget import BudgetSpentError, Limits, estimate_bill, used
from ip2p.training.instructions.triplets import Tokens
from openai_server import Faults, serving

PRICES = {"price_prompt": 1000.0, "price_completion": 4000.0}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_cost": 1.0}, "--price-prompt"),
        ({"price_prompt": 1.0}, "both prices"),
        ({"max_requests": -1}, "--max-requests"),
        ({"max_cost": float("nan"), **PRICES}, "--max-cost"),
    ],
)
def test_limits_that_mean_nothing_are_told(given, says):
    with pytest.raises(ValueError, match=says):
        Limits(**given)


def test_a_bill_before_the_first_answer_counts_the_longest_answers(tmp_path):
    backend = chat("http://127.0.0.1:1/v1", **PRICES)
    bill = estimate_bill(backend.estimate, requests(2500), Answers(tmp_path / "a"), backend.hosted)
    assert bill.requests == 2500
    assert bill.completion_tokens == 2500 * 256
    assert not bill.measured
    assert bill.cost == pytest.approx(bill.prompt_tokens * 1e-3 + bill.completion_tokens * 4e-3, rel=1e-6)
    assert estimate_bill(backend.estimate, requests(3), Answers(tmp_path / "b"), Limits()).cost is None


def test_a_bill_learns_from_the_service_s_own_counts(tmp_path):
    with serving() as service:
        backend = chat(service.url, **PRICES)
        answers = ask(backend, requests(20), tmp_path)
        bill = estimate_bill(backend.estimate, requests(60), answers, backend.hosted)
        assert bill.measured
        assert bill.requests == 40
        answers = ask(backend, requests(60), tmp_path)
        tokens = [used(answers[request.id]) for request in requests(60)[20:]]
        assert bill.completion_tokens == sum(each.completion for each in tokens)
        assert bill.prompt_tokens == pytest.approx(sum(each.prompt for each in tokens), rel=0.03)
        assert estimate_bill(backend.estimate, requests(60), answers, backend.hosted).cost == 0


def test_max_requests_cuts_at_the_same_request_whatever_fails_and_counts_earlier_runs(tmp_path):
    with serving(Faults(errors=0.3, latency=0.005)) as service:
        for limit in (7, 7, 20):
            with pytest.raises(BudgetSpentError, match=f"--max-requests {limit} is reached: {limit} answers are kept"):
                ask(chat(service.url, max_requests=limit), requests(30), tmp_path)
            answers = Answers(tmp_path / "answers.jsonl")
            assert [request.id in answers for request in requests(30)] == [i < limit for i in range(30)]
            assert sum(service.answered.values()) == limit
        assert len(ask(chat(service.url, max_requests=30), requests(30), tmp_path)) == 30


def test_max_cost_is_never_passed_and_is_used_to_the_last_request(tmp_path):
    with serving(Faults(latency=0.005)) as service:
        backend = chat(service.url, max_cost=12.0, **PRICES)
        for _ in range(2):
            with pytest.raises(BudgetSpentError, match=r"of --max-cost 12 is spent"):
                ask(backend, requests(100), tmp_path)
            answers = Answers(tmp_path / "answers.jsonl")
            total = sum(backend.hosted.cost(each.prompt, each.completion) for each in map(used, answers))
            most = backend.at_most(backend.body(requests(100)[len(answers)]))
            assert total <= 12.0 < total + backend.hosted.cost(most.prompt, most.completion)
            assert [request.id in answers for request in requests(100)] == [i < len(answers) for i in range(100)]
            assert sum(service.answered.values()) == len(answers)


def test_answers_to_other_settings_in_the_folder_count_to_the_limits(tmp_path):
    with serving() as service:
        ask(chat(service.url), requests(5), tmp_path)
        (tmp_path / "answers.jsonl").rename(tmp_path / "other.jsonl")
        (tmp_path / "moderation.jsonl").write_text('{"id": "1", "flagged": ""}\n')
        with pytest.raises(BudgetSpentError, match="--max-requests 7 is reached"):
            ask(chat(service.url, temperature=1.0, max_requests=7), requests(20), tmp_path)
        assert len(Answers(tmp_path / "answers.jsonl")) == 2
        spent = sum(map(service_cost, Answers(tmp_path / "other.jsonl")))
        with pytest.raises(BudgetSpentError, match="of --max-cost"):
            ask(chat(service.url, temperature=1.0, max_cost=spent, **PRICES), requests(20), tmp_path)
        assert len(Answers(tmp_path / "answers.jsonl")) == 2


def service_cost(answer):
    """What an answer cost."""
    tokens = used(answer)
    return Limits(**PRICES).cost(tokens.prompt, tokens.completion)


def test_max_cost_needs_a_service_that_tells_tokens(tmp_path):
    with serving(Faults(usage=False)) as service:
        with pytest.raises(BudgetSpentError, match="does not tell how many tokens"):
            ask(chat(service.url, max_cost=100.0, concurrency=1, **PRICES), requests(5), tmp_path)
        assert len(Answers(tmp_path / "answers.jsonl")) == sum(service.answered.values()) == 1
        assert len(ask(chat(service.url), requests(5), tmp_path)) == 5


def test_the_most_a_prompt_may_cost_is_above_the_estimate():
    backend = chat("http://127.0.0.1:1/v1")
    request = requests(1)[0]
    most, about = backend.at_most(backend.body(request)), backend.estimate(request)
    assert most.prompt > 2 * about.prompt
    assert most.completion == about.completion == Tokens(0, 256).completion
