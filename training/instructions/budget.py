"""What asking costs: limits that a run keeps, and the bill before it begins."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .answers import Answers
from .triplets import Request, Tokens, missing

SAMPLE = 1000
"""Requests whose tokens are counted for a bill. The rest is taken to be like them."""


class BudgetSpentError(ValueError):
    """The next request could pass a limit. What was answered is kept."""


@dataclass(kw_only=True)
class Limits:
    """Limits of what is spent, and the prices to count it with."""

    max_requests: int | None = None
    """Answers to pay for at most, those of earlier runs in the same folder included, or of the same recipe."""
    max_cost: float | None = None
    """What all answers may cost at most, those of earlier runs in the same folder included, by the prices given.
    Attempts that the service failed to answer are not counted."""
    price_prompt: float | None = None
    """Price of a million prompt tokens. For the Batch API, its own price."""
    price_completion: float | None = None
    """Price of a million completion tokens. For the Batch API, its own price."""

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_cost", "price_prompt", "price_completion"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} must be 0 or more, not {value}.")
        if (self.price_prompt is None) != (self.price_completion is None):
            raise ValueError("Give both prices, --price-prompt and --price-completion, or neither.")
        if self.max_cost is not None and self.price_prompt is None:
            raise ValueError("--max-cost needs prices to count with: give --price-prompt and --price-completion.")

    def cost(self, prompt: float, completion: float) -> float | None:
        """What tokens cost, where prices are known."""
        if self.price_prompt is None or self.price_completion is None:
            return None
        return (prompt * self.price_prompt + completion * self.price_completion) / 1e6


class Budget:
    """What is spent, counted from the answers on disk, those to other settings too, and what requests in flight may
    cost at most.

    Raises BudgetSpentError where max_cost is to be kept and an answer does not tell its tokens.
    """

    def __init__(self, limits: Limits, answers: Answers) -> None:
        self.limits = limits
        self.in_flight = self.answered = 0
        self.prompt = self.completion = 0
        """Tokens: of answers those used, of requests in flight the most that they may use."""
        if limits.max_requests is not None or limits.max_cost is not None:
            for answer in paid(answers):
                self.add(answer)

    def fits(self, most: Tokens) -> bool:
        """Whether a request that uses at most this many tokens stays within the limits in any case."""
        limits = self.limits
        if limits.max_requests is not None and self.answered + self.in_flight >= limits.max_requests:
            return False
        cost = limits.cost(self.prompt + most.prompt, self.completion + most.completion)
        return limits.max_cost is None or cost is None or cost <= limits.max_cost

    def reserve(self, most: Tokens) -> None:
        """Count a request that is about to be asked."""
        self.in_flight += 1
        self.prompt += most.prompt
        self.completion += most.completion

    def release(self, most: Tokens) -> None:
        """A request is no longer in flight."""
        self.in_flight -= 1
        self.prompt -= most.prompt
        self.completion -= most.completion

    def add(self, answer: dict[str, Any]) -> None:
        """Count an answer that came."""
        self.answered += 1
        if self.limits.max_cost is not None:
            self.count(answer)

    def count(self, answer: dict[str, Any]) -> None:
        """Count an answer's tokens."""
        tokens = used(answer)
        if tokens is None:
            raise BudgetSpentError(
                "The service does not tell how many tokens an answer used, so --max-cost can't be kept: "
                "use --max-requests. The answers so far are kept."
            )
        self.prompt += tokens.prompt
        self.completion += tokens.completion

    def spent(self) -> BudgetSpentError:
        """The error that says which limit is reached."""
        limits = self.limits
        if limits.max_requests is not None and self.answered + self.in_flight >= limits.max_requests:
            limit = f"--max-requests {limits.max_requests} is reached"
        else:
            cost = limits.cost(self.prompt, self.completion)
            limit = f"{cost:.4f} of --max-cost {limits.max_cost:g} is spent, and the next request could pass it"
        return BudgetSpentError(f"{limit}: {self.answered} answers are kept. Raise it to go on from here.")


def paid(answers: Answers) -> Iterator[dict[str, Any]]:
    """What a service answered: the answers of a file, and of those beside it, where runs with other settings keep
    theirs."""
    yield from answers
    for path in sorted(answers.path.parent.glob("*.jsonl")):
        if path.name == answers.path.name:
            continue
        with path.open("rb") as file:
            told = (json.loads(line) for line in file if line.endswith(b"\n"))
            yield from (answer for answer in told if "response" in answer or "error" in answer)


def used(answer: dict[str, Any]) -> Tokens | None:
    """The tokens that the service says it counted for an answer. What it refused to answer is free."""
    if "error" in answer:
        return Tokens(0, 0)
    usage = answer["response"].get("usage") or {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return None if prompt is None or completion is None else Tokens(prompt, completion)


def approximate_tokens(text: str) -> int:
    """About how many tokens a text is: a quarter of its bytes in UTF-8, at least 1.3 a word.

    The rule of thumb for English and byte-pair vocabularies of 50 to 200 thousand. No tokenizer of the service's is
    needed; `estimate_bill` corrects it by what the service counted, as soon as there are answers.
    """
    return math.ceil(max(len(text.encode()) / 4, 1.3 * len(text.split())))


@dataclass(frozen=True)
class Bill:
    """What is still to be asked, and about what it costs."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """In the prices' currency, where prices are given."""
    measured: bool
    """Whether tokens are scaled by what answers so far have used. Else completions are counted at their longest."""


def estimate_bill(
    estimate: Callable[[Request], Tokens], requests: Sequence[Request], answers: Answers, limits: Limits
) -> Bill:
    """The bill for the requests that have no answer yet, if each is answered at the first attempt.

    estimate: a backend's `estimate`
    """
    wanted = missing(requests, answers)
    sample = every(wanted, SAMPLE)
    guesses = [estimate(request) for request in sample]
    prompt = sum(guess.prompt for guess in guesses) * len(wanted) / max(1, len(sample))
    completion = sum(guess.completion for guess in guesses) * len(wanted) / max(1, len(sample))

    known = [
        (estimate(request), tokens)
        for request in every([request for request in requests if request.id in answers], SAMPLE)
        if (tokens := used(answers[request.id])) and tokens.prompt
    ]
    if known:
        prompt *= sum(tokens.prompt for _, tokens in known) / sum(guess.prompt for guess, _ in known)
        completion *= sum(tokens.completion for _, tokens in known) / sum(guess.completion for guess, _ in known)
    cost = limits.cost(prompt, completion)
    return Bill(len(wanted), round(prompt), round(completion), cost, bool(known))


def every(requests: Sequence[Request], count: int) -> Sequence[Request]:
    """At most `count` of the requests, evenly spaced."""
    return requests[:: math.ceil(len(requests) / count) or 1]
