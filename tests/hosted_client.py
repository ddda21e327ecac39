"""What the tests of the hosted model ask; by itself, a process to kill: `hosted_client.py KIND URL FOLDER COUNT`."""

import json
import sys
from pathlib import Path
from typing import Any

from ip2p.training.instructions.answers import Answers
from ip2p.training.instructions.batches import BatchBackend, BatchSettings
from ip2p.training.instructions.hosted import HostedBackend, HostedSettings
from ip2p.training.instructions.seeds import Seed, load_seeds
from ip2p.training.instructions.triplets import BadAnswerError, Caption, Request
from ip2p.training.instructions.tuning import TuningSettings, tune

PATIENCE: dict[str, Any] = {"model": "tiny", "backoff": 0.001}


def seeds(count: int = 40) -> list[Seed]:
    return load_seeds()[0][:count]


def requests(count: int) -> list[Request]:
    return [Request(Caption(f"A {i}-masted ship in the harbour of Varna")) for i in range(count)]


def chat(url: str, **settings: Any) -> HostedBackend:
    return HostedBackend(HostedSettings(base_url=url, **PATIENCE | settings), seeds())


def batch(url: str, **settings: Any) -> BatchBackend:
    return BatchBackend(BatchSettings(base_url=url, **PATIENCE | {"poll_every": 0.01} | settings), seeds())


def ask(backend: HostedBackend, wanted: list[Request], folder: Path) -> Answers:
    """Ask, and give the answers also where the run stopped."""
    answers = Answers(folder / "answers.jsonl")
    backend.answer(wanted, answers)
    return answers


def parsed(backend: HostedBackend, wanted: list[Request], answers: Answers) -> list[Any]:
    """What each answer says, or what is wrong with it."""
    results: list[Any] = []
    for request in wanted:
        try:
            results.append(backend.parse(request, answers[request.id]))
        except BadAnswerError as error:
            results.append(str(error))
    return results


def stored(folder: Path) -> dict[str, Any]:
    """The answers on disk by the request's id."""
    file = folder / "answers.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
    return {answer["id"]: answer for answer in map(json.loads, lines)}


def main() -> None:
    kind, url, folder, count = sys.argv[1:]
    print("ready", flush=True)
    if kind == "tune":
        settings = TuningSettings(base_url=url, poll_every=0.1, **PATIENCE)
        print(tune(settings, seeds(int(count)), [], Path(folder), tell=lambda text: print(text, flush=True)))
    else:
        ask({"chat": chat, "batch": batch}[kind](url), requests(int(count)), Path(folder))


if __name__ == "__main__":
    main()
