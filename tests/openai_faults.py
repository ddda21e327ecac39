"""What the service of `openai_server` answers, and what goes wrong there on demand."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

TRANSPORT = ("rate_limited", "errors", "hangs", "drops")
CONTENT = ("truncated", "malformed", "refused", "empty", "fenced")
ADJECTIVES = ("snowy", "golden", "rusty", "velvet", "neon", "ancient", "foggy", "wooden", "paper", "moonlit")


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Shares, from 0 to 1, are of requests unless they say otherwise."""

    answer: str | None = None
    """What every chat is answered with, instead of a triplet."""
    key: str | None = None
    """The only key that is accepted. None: any, or none."""
    latency: float = 0.0
    """Seconds until an answer."""
    rate_limited: float = 0.0
    """Share of attempts answered with 429."""
    retry_after: str | None = None
    """Retry-After of those."""
    errors: float = 0.0
    """Share of attempts answered with 500."""
    hangs: float = 0.0
    """Share of attempts answered only after a minute."""
    drops: float = 0.0
    """Share of attempts whose connection is closed without a response."""
    times: int = 10**9
    """How often each content meets faults of the transport, before they end."""
    poison: str | None = None
    """Requests that hold this text are always answered with 500."""
    filtered: str | None = None
    """Requests that hold this text are turned away with 400, content_filter."""
    truncated: float = 0.0
    malformed: float = 0.0
    refused: float = 0.0
    empty: float = 0.0
    fenced: float = 0.0
    """Share of answers with JSON in a fence."""
    usage: bool = True
    """Whether answers tell their tokens."""
    refusal: dict[str, Any] | None = None
    """Turns every request away with these `status`, `code` and `message`."""
    lost: float = 0.0
    """Share of a batch's requests that have neither a result nor an error."""
    failing: float = 0.0
    """Share of a batch's requests that have an error instead of a result."""
    batch: str = "completed"
    """How batches end: completed, expired, cancelled (half done, both), failed or token_limit_exceeded."""
    batch_polls: int = 2
    """How often a batch or a job is asked about before it ends."""
    batches: int = 10**9
    """How many batches meet these faults, before they end."""
    tuning: str = "succeeded"
    """How jobs end: succeeded, failed, cancelled; or `closing`, `not_tunable` or `absent`, with no job made."""
    dies_after_create: bool = False
    """Whether the first batch or job is made but its maker gets no response."""


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def draw(*values: Any) -> float:
    """A number from 0 to 1 that depends on the values only."""
    return int(digest(values)[:8], 16) / 16**8


def failure(status: int, message: str, code: str | None = None, **headers: str) -> Response:
    error = {"message": message, "type": "error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, {name.replace("_", "-"): value for name, value in headers.items()})


def drop(request: Request) -> Response:
    """Close the connection; what is returned goes nowhere."""
    request.scope["abort"]()
    return Response()


def edit(body: dict[str, Any]) -> dict[str, str]:
    """A plausible answer to a request for a triplet."""
    lines = body["messages"][-1]["content"].splitlines()
    kinds = next((line.removeprefix("Kinds: ").split(", ") for line in lines if line.startswith("Kinds: ")), ["add"])
    caption = lines[-1].removeprefix("Caption: ")
    seed = (body["messages"][-1], body.get("seed"))
    word = ADJECTIVES[int(draw("word", *seed) * len(ADJECTIVES))]
    kind = kinds[int(draw("kind", *seed) * len(kinds))]
    return {"kind": kind, "instruction": f"give it a {word} look", "edited_caption": f"{caption}, {word}"}


def complete(body: dict[str, Any], faults: Faults) -> dict[str, Any]:
    """The body of a chat completion."""
    content, refusal, finish = faults.answer or json.dumps(edit(body)), None, "stop"
    match which(("content", body), CONTENT, faults):
        case "truncated":
            content, finish = content[:20], "length"
        case "malformed":
            content = content[:-5]
        case "refused":
            content, refusal = None, "I can't help with that."
        case "empty":
            content = ""
        case "fenced":
            content = f"```json\n{content}\n```"
    prompt = sum(len(message["content"]) for message in body["messages"]) // 4
    usage = {"prompt_tokens": prompt, "completion_tokens": 30, "total_tokens": prompt + 30}
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, "refusal": refusal},
    }
    return {
        "id": f"chatcmpl-{digest(body)[:12]}",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
    } | ({"usage": usage} if faults.usage else {})


def which(values: Any, names: tuple[str, ...], faults: Faults) -> str | None:
    """The fault that is drawn by the values, if one is."""
    left = draw(values)
    for name in names:
        if left < getattr(faults, name):
            return name
        left -= getattr(faults, name)
    return None
