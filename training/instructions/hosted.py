"""Triplets from a hosted chat model, asked one by one over an OpenAI-compatible API, several at a time."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import openai

from .answers import Answers
from .budget import Budget, BudgetSpentError, Limits, approximate_tokens
from .prompting import RESPONSE_FORMAT, Example, Examples, parse_chat
from .service import GivenUpError, ServiceError, ServiceSettings, is_refusal, pause, reason
from .triplets import BadAnswerError, Caption, Parsed, Request, Tokens, digest, missing


@dataclass(kw_only=True)
class HostedSettings(Limits, ServiceSettings):
    """How a hosted chat model is asked for triplets."""

    temperature: float | None = 0.7
    """Of sampling; the paper's. null leaves it to models that let nobody choose."""
    max_tokens: int = 256
    """Longest answer in tokens; the paper's. Models that think before they answer need far more."""
    examples: int = 6
    """Seed triplets that each prompt shows. 0 for a model tuned on them."""
    concurrency: int = 8
    """Requests in flight at most."""

    def __post_init__(self) -> None:
        Limits.__post_init__(self)
        ServiceSettings.__post_init__(self)
        for name, least in (("max_tokens", 1), ("examples", 0), ("concurrency", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be {least} or more, not {getattr(self, name)}.")


class HostedBackend:
    """Asks a hosted chat model for each triplet.

    hosted:   which model, and how it is asked
    seeds:    triplets written by people, shown as examples
    run_seed: seeds all that is drawn: examples, kinds, and what the service samples with
    """

    def __init__(self, hosted: HostedSettings, seeds: Sequence[Example], run_seed: int = 0) -> None:
        self.model = hosted.model
        self.hosted = hosted
        self.run_seed = run_seed
        self.examples = Examples(seeds if hosted.examples else [], hosted.examples)

    def settings(self) -> dict[str, Any]:
        """All that answers depend on, as JSON. Never a key, nor an address, which may hold one."""
        seeds = [[s.original_prompt, s.edit_prompt, s.edited_prompt, s.kind] for s in self.examples.triplets]
        return {
            "backend": "openai",
            "model": self.model,
            "temperature": self.hosted.temperature,
            "max_tokens": self.hosted.max_tokens,
            "examples": self.hosted.examples,
            "seed": self.run_seed,
            "seeds": digest(json.dumps(seeds)),
            "prompt": digest(json.dumps([self.messages(Request(Caption("a cat"))), RESPONSE_FORMAT])),
        }

    def messages(self, request: Request) -> list[dict[str, str]]:
        """The conversation that asks for a triplet."""
        return self.examples.messages(request, self.run_seed)

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request."""
        longest = "max_completion_tokens" if self.hosted.is_openai() else "max_tokens"  # others know the old name only
        body = {
            "model": self.model,
            "messages": self.messages(request),
            "response_format": RESPONSE_FORMAT,
            "temperature": self.hosted.temperature,
            longest: self.hosted.max_tokens,
            "seed": request.seed(self.run_seed),
        }
        return {name: value for name, value in body.items() if value is not None}

    def estimate(self, request: Request) -> Tokens:
        """About how many tokens the prompt is, and how many the answer is at most."""
        prompt = sum(4 + approximate_tokens(message["content"]) for message in self.messages(request))
        return Tokens(prompt, self.hosted.max_tokens)

    def at_most(self, body: dict[str, Any]) -> Tokens:
        """Tokens that a request can't pass: no tokenizer makes more of a text than it has bytes."""
        return Tokens(len(json.dumps(body, ensure_ascii=False).encode()), self.hosted.max_tokens)

    def answer(self, requests: Sequence[Request], answers: Answers) -> None:
        """Ask for every request that `answers` lacks, and add the body of each response as it came.

        Raises BudgetSpentError before a request that could pass a limit, and ServiceError where the service is given
        up. What is in flight then is waited for and kept. After KeyboardInterrupt only what is in flight is lost.
        """
        wanted = missing(requests, answers)
        if wanted:
            asyncio.run(Asking(self, wanted, answers).run())

    def parse(self, request: Request, answer: dict[str, Any]) -> Parsed:
        """Instruction, edited caption and kind. Raises BadAnswerError."""
        if "error" in answer:
            raise BadAnswerError("refused")
        return Parsed(*parse_chat(answer["response"]))


class Asking:
    """Some requests on their way: workers take them in order and add what comes."""

    def __init__(self, backend: HostedBackend, wanted: Sequence[Request], answers: Answers) -> None:
        self.backend = backend
        self.requests = iter(wanted)
        self.answers = answers
        self.budget = Budget(backend.hosted, answers)
        self.client = openai.AsyncOpenAI(**backend.hosted.client_options())
        self.turn = asyncio.Lock()
        """Held to take a request: limits then cut the requests at the same place whatever the order of answers."""
        self.room = asyncio.Event()
        self.stopped = asyncio.Event()
        self.error: ServiceError | BudgetSpentError | None = None
        self.unanswered: list[ServiceError] = []
        self.quiet_until = 0.0
        """By the loop's clock: while a rate limit holds, nothing is sent."""

    async def run(self) -> None:
        """Ask for all of them."""
        async with self.client:
            await asyncio.gather(*(self.work() for _ in range(self.backend.hosted.concurrency)))
        if self.error:
            raise self.error
        if self.unanswered:
            raise ServiceError(
                f"{len(self.unanswered)} requests got no answer; the first: {self.unanswered[0]} "
                "The others are answered and kept."
            )

    async def work(self) -> None:
        """Ask for one request after another, until there are none or the run stops."""
        while not self.stopped.is_set():
            async with self.turn:
                request = next(self.requests, None)
                if request is None:
                    return
                body = self.backend.body(request)
                most = self.backend.at_most(body)
                if not await self.has_room(most):
                    return
                self.budget.reserve(most)
            before = self.budget.answered
            try:
                answer = await self.ask(body)
                if answer:
                    answer = {"id": request.id, **answer}
                    self.answers.add(answer)
                    self.budget.add(answer)
            except GivenUpError as error:
                if self.budget.answered == before:  # nothing works, not just this request
                    self.stop(error)
                self.unanswered.append(error)
            except (ServiceError, BudgetSpentError) as error:
                self.stop(error)
            finally:
                self.budget.release(most)
                self.room.set()

    def stop(self, error: ServiceError | BudgetSpentError) -> None:
        """Send nothing more. What is in flight is waited for."""
        self.error = self.error or error
        self.stopped.set()

    async def has_room(self, most: Tokens) -> bool:
        """Whether the limits let a request be sent, once what is in flight has turned out cheaper than it could be."""
        while not self.stopped.is_set():
            if self.budget.fits(most):
                return True
            if not self.budget.in_flight:
                self.stop(self.budget.spent())
            else:
                self.room.clear()
                await self.room.wait()
        return False

    async def ask(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The service's response, or its refusal, after as many attempts as it takes; None where the run stops."""
        clock = asyncio.get_running_loop().time
        failures, answered = 0, self.budget.answered
        while not self.stopped.is_set():
            if clock() < self.quiet_until:
                await self.sleep(self.quiet_until - clock())
                continue
            try:
                # Not chat.completions.create, which spends longer on walking through the messages than on sending them.
                return {"response": completion(await self.client.post("/chat/completions", cast_to=str, body=body))}
            except openai.OpenAIError as error:
                if is_refusal(error):
                    return {"error": reason(error)}
                limited = isinstance(error, openai.RateLimitError)
                if limited and self.budget.answered > answered:  # the limit lets others through: this one's turn comes
                    failures, answered = 0, self.budget.answered
                failures += 1
                seconds = pause(error, failures, self.backend.hosted)
                if limited:
                    self.quiet_until = max(self.quiet_until, clock() + seconds)
                await self.sleep(seconds)
        return None

    async def sleep(self, seconds: float) -> None:
        """Wait, unless the run stops."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), seconds)


def completion(text: str) -> dict[str, Any]:
    """The JSON of a chat completion. Raises openai.OpenAIError where a response is none."""
    with suppress(ValueError):
        body = json.loads(text)
        if isinstance(body, dict) and body.get("choices"):
            return body
    raise openai.OpenAIError("the response is no chat completion")
