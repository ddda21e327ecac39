"""Triplets from a hosted chat model by the Batch API: the requests of `hosted`, at leave and at a lower price.

Beside the file of answers lies a folder: FILE.batches/DIGEST.jsonl holds the requests of a batch that is not read yet,
FILE.batches/state.json names the batches made. A batch carries its requests' digest as metadata, so that one that was
made just before a kill is found again instead of paid for twice.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai.types import Batch

from ..files import write_whole
from .answers import Answers
from .budget import Budget
from .hosted import HostedBackend, HostedSettings
from .prompting import Example
from .service import CONTENT_CODES, ServiceError, patiently, without_key
from .triplets import Request, missing

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""The service's limits of a batch."""
ENDED = ("completed", "failed", "expired", "cancelled")
MARK = "ip2p_requests"
"""The key of a batch's metadata."""
WRITTEN_AT_ONCE = 1000

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class BatchSettings(HostedSettings):
    """How a hosted chat model is asked by the Batch API."""

    batch_requests: int = MOST_REQUESTS
    """Requests of a batch at most: fewer where the service's queue takes fewer tokens."""
    poll_every: float = 30.0
    """Seconds between two questions whether batches are done."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.batch_requests <= MOST_REQUESTS:
            raise ValueError(f"--batch-requests must be from 1 to {MOST_REQUESTS}, not {self.batch_requests}.")
        if not self.poll_every > 0:
            raise ValueError(f"poll_every must be above 0, not {self.poll_every}.")


class BatchBackend(HostedBackend):
    """Asks a hosted chat model for triplets, many at a time, and waits for what the service calls a day at most."""

    def __init__(self, hosted: BatchSettings, seeds: Sequence[Example], run_seed: int = 0) -> None:
        super().__init__(hosted, seeds, run_seed)
        self.batch = hosted

    def answer(self, requests: Sequence[Request], answers: Answers) -> None:
        """Ask for every request that `answers` lacks, again for those that a batch left out, and add what comes.

        Raises BudgetSpentError where the next request could pass a limit, and ServiceError where batches fail. What
        other batches bring is kept. KeyboardInterrupt leaves them running; called again, it goes on watching.
        """
        if not missing(requests, answers):
            return
        with openai.OpenAI(**self.hosted.client_options()) as client:
            batches = Batches(client, self.batch, answers)
            try:
                while batches.plan(self, requests):
                    batches.run()
            except KeyboardInterrupt:
                logger.warning("The batches go on at the service: the same command goes on watching them.")
                raise


class Batches:
    """The batches of one file of answers."""

    def __init__(self, client: openai.OpenAI, settings: BatchSettings, answers: Answers) -> None:
        self.client = client
        self.settings = settings
        self.answers = answers
        self.folder = answers.path.with_name(answers.path.name + ".batches")
        self.folder.mkdir(exist_ok=True)
        self.state_file = self.folder / "state.json"
        self.state: dict[str, dict[str, Any]] = (
            json.loads(self.state_file.read_bytes()) if self.state_file.exists() else {}
        )
        """By a batch's id: the digest of its `requests`, and whether it is `read`."""

    def open(self) -> list[Path]:
        """The files of requests whose batches are not read yet."""
        return sorted(self.folder.glob("*.jsonl"))

    def plan(self, backend: BatchBackend, requests: Sequence[Request]) -> bool:
        """Write the files of requests that are neither answered nor in one, as far as the limits let them be asked.

        Returns whether there is anything to ask or to watch. Raises BudgetSpentError where only a limit is left.
        """
        budget = Budget(self.settings, self.answers)
        asked: set[str] = set()
        unread = {noted["requests"] for noted in self.state.values() if not noted["read"]}
        for file in self.open():
            told = list(read_lines(file.read_bytes()))
            if file.stem not in unread and any(line["custom_id"] in self.answers for line in told):
                file.unlink()  # its batch was read: a kill came just before this
                continue
            for line in told:
                asked.add(line["custom_id"])
                budget.reserve(backend.at_most(line["body"]))
        wanted = [request for request in missing(requests, self.answers) if request.id not in asked]

        def affordable() -> Iterator[bytes]:
            for request in wanted:
                body = backend.body(request)
                most = backend.at_most(body)
                if not budget.fits(most):
                    return
                budget.reserve(most)
                line = {"custom_id": request.id, "method": "POST", "url": "/v1/chat/completions", "body": body}
                yield json.dumps(line, ensure_ascii=False).encode() + b"\n"

        for lines in split(affordable(), self.settings.batch_requests, MOST_BYTES):
            content = b"".join(lines)
            write_whole(self.folder / f"{hashlib.sha256(content).hexdigest()}.jsonl", content)
        if wanted and not self.open():
            raise budget.spent()
        return bool(self.open())

    def run(self) -> None:
        """Make the batches that are not made yet, wait until all have ended, and keep what they bring.

        Raises ServiceError where one failed, or none brought anything.
        """
        before = len(self.answers)
        waiting = {file: patiently(self.made, self.settings, file) for file in self.open()}
        failures: list[str] = []
        errors: list[str] = []
        while waiting:
            for file, name in list(waiting.items()):
                batch = patiently(self.client.batches.retrieve, self.settings, name)
                if batch.status in ENDED:
                    errors += self.read(batch)
                    failures += [error.message or "" for error in lasting_errors(batch)]
                    self.note(batch.id, file, read=True)
                    file.unlink()
                    del waiting[file]
            if waiting:
                time.sleep(self.settings.poll_every)
        if failures:
            raise ServiceError(f"The service failed a batch ({without_key(failures[0])}). Answers of others are kept.")
        if len(self.answers) == before:
            first = without_key(errors[0]) if errors else "no reason told"
            raise ServiceError(f"The service ended the batches without an answer ({first}). Run again to ask again.")

    def made(self, file: Path) -> str:
        """The id of a file's batch: noted, or found at the service, or newly made."""
        requests = file.stem
        for name, noted in self.state.items():
            if noted["requests"] == requests and not noted["read"]:
                return name
        for batch in self.client.batches.list(limit=100):
            if (batch.metadata or {}).get(MARK) == requests and batch.id not in self.state:
                break
        else:
            with file.open("rb") as content:
                sent = self.client.files.create(file=content, purpose="batch")
            batch = self.client.batches.create(
                input_file_id=sent.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={MARK: requests},
            )
        self.note(batch.id, file, read=False)
        return batch.id

    def note(self, name: str, file: Path, read: bool) -> None:
        """Write down what is known of a batch."""
        self.state[name] = {"requests": file.stem, "read": read}
        write_whole(self.state_file, json.dumps(self.state, indent=1).encode())

    def read(self, batch: Batch) -> list[str]:
        """Add the answers of an ended batch, and return what was wrong with requests that it has none for."""
        errors: list[str] = [error.message or "" for error in (batch.errors and batch.errors.data) or []]
        for name in filter(None, (batch.output_file_id, batch.error_file_id)):
            content = patiently(self.client.files.content, self.settings, name)
            found = []
            for line in read_lines(content.content):
                answer = answer_of(line)
                if "response" not in answer and "error" not in answer:
                    errors.append(answer["failure"])
                elif line["custom_id"] not in self.answers:
                    found.append(answer)
            for start in range(0, len(found), WRITTEN_AT_ONCE):
                self.answers.add(*found[start : start + WRITTEN_AT_ONCE])
        return errors


def lasting_errors(batch: Batch) -> list[Any]:
    """What was wrong with a failed batch, unless it is a queue that was too full for it."""
    if batch.status != "failed":
        return []
    return [error for error in (batch.errors and batch.errors.data) or [] if error.code != "token_limit_exceeded"]


def answer_of(line: dict[str, Any]) -> dict[str, Any]:
    """A line of a batch's results as an answer, or with its `failure` where it has to be asked again."""
    response, error = line.get("response") or {}, line.get("error")
    body = response.get("body") or {}
    if response.get("status_code") == 200 and body.get("choices"):
        return {"id": line["custom_id"], "response": body}
    error = error or body.get("error") or {}
    message = str(error.get("message") or "no reason told")
    return {"id": line["custom_id"], "error" if error.get("code") in CONTENT_CODES else "failure": message}


def split(lines: Iterable[bytes], most_lines: int, most_bytes: int) -> Iterator[list[bytes]]:
    """Lines in groups that keep both limits."""
    group: list[bytes] = []
    size = 0
    for line in lines:
        if group and (len(group) == most_lines or size + len(line) > most_bytes):
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line)
    if group:
        yield group


def read_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file."""
    return (json.loads(line) for line in content.split(b"\n") if line.strip())
