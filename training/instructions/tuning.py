"""Fine-tuning at a service: the seeds go up in chat format, a job is made and followed, the model's name is kept."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJob

from ..files import write_whole
from .prompting import Example, tuning_line
from .service import ServiceError, ServiceSettings, patiently, reason, without_key
from .triplets import digest

LEAST_EXAMPLES = 10
"""Fewer are turned down by services."""
ELSEWHERE = "Try another --model or --base-url, or tune a model on this machine with the local backend."
MARK = "ip2p_tuning"
"""The key of a job's metadata."""

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TuningSettings(ServiceSettings):
    """How a hosted chat model is tuned on the seeds."""

    epochs: int | None = None
    """Passes over the seeds; the paper's GPT-3 took 1. Default: what the service chooses."""
    suffix: str | None = None
    """Part of the tuned model's name. Default: none."""
    poll_every: float = 10.0
    """Seconds between two questions how the job does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"--epochs must be 1 or more, not {self.epochs}.")
        if not self.poll_every > 0:
            raise ValueError(f"poll_every must be above 0, not {self.poll_every}.")


def tune(
    settings: TuningSettings,
    seeds: Sequence[Example],
    held_out: Sequence[Example],
    folder: Path,
    run_seed: int = 0,
    tell: Callable[[str], object] = print,
) -> str:
    """Tune a hosted model on the seeds and give its name, also kept in FOLDER/tuning.json under "model".

    Called again with the same arguments after a kill, it goes on watching the same job, and after the end gives the
    name. KeyboardInterrupt leaves the job running.

    settings: which model, and how
    seeds:    what it learns from, at least ten
    held_out: what the service measures the loss on, may be empty
    folder:   of the job: what was sent, and its state
    run_seed: of the kinds that each seed's prompt offers
    tell:     is given each event of the job once

    Raises ValueError for too few seeds or a folder of another tuning, and ServiceError where the service does not tune
    the model or its job fails.
    """
    if len(seeds) < LEAST_EXAMPLES:
        raise ValueError(f"Fine-tuning needs at least {LEAST_EXAMPLES} seed triplets, not {len(seeds)}.")
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "training_file": "".join(tuning_line(seed, run_seed) + "\n" for seed in seeds),
        "validation_file": "".join(tuning_line(seed, run_seed) + "\n" for seed in held_out),
    }
    with openai.OpenAI(**settings.client_options()) as client:
        tuning = Tuning(client, settings, files, folder, tell)
        if "model" not in tuning.state:
            job = patiently(tuning.job, settings)
            try:
                tuning.watch(job)
            except KeyboardInterrupt:
                logger.warning("The job goes on at the service: the same command goes on watching it.")
                raise
        return tuning.state["model"]


class Tuning:
    """One fine-tuning job and its state on disk."""

    def __init__(
        self,
        client: openai.OpenAI,
        settings: TuningSettings,
        files: dict[str, str],
        folder: Path,
        tell: Callable[[str], object],
    ) -> None:
        self.client = client
        self.settings = settings
        self.files = {name: content for name, content in files.items() if content}
        self.folder = folder
        self.tell = tell
        self.mark = digest(json.dumps([settings.model, settings.epochs, settings.suffix, self.files]))
        self.state_file = folder / "tuning.json"
        self.state: dict[str, Any] = {"mark": self.mark}
        """`mark` of what is tuned, `job`, the last `event` told, and in the end `model`."""
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_bytes())
        if self.state["mark"] != self.mark:
            raise ValueError(f"{folder} holds the tuning of another model or other seeds: choose another folder.")

    def note(self, **known: Any) -> None:
        """Write down what is known."""
        self.state |= known
        write_whole(self.state_file, json.dumps(self.state, indent=1).encode())

    def job(self) -> str:
        """The id of the job: noted, or found at the service, or newly made."""
        if "job" not in self.state:
            job = self.found() or self.made()
            self.note(job=job.id)
        return self.state["job"]

    def found(self) -> FineTuningJob | None:
        """The job that was made just before a kill, or that tuned the same model on the same seeds before."""
        try:
            for job in self.client.fine_tuning.jobs.list(limit=100):
                if (job.metadata or {}).get(MARK) == self.mark and job.status not in ("failed", "cancelled"):
                    return job
        except openai.NotFoundError as error:
            raise ServiceError(f"This service does not fine-tune ({reason(error)}). {ELSEWHERE}") from None
        return None

    def made(self) -> FineTuningJob:
        """A new job."""
        options: dict[str, Any] = {"suffix": self.settings.suffix} if self.settings.suffix else {}
        for name, content in self.files.items():
            path = self.folder / f"{name}.jsonl"
            write_whole(path, content.encode())
            with path.open("rb") as file:
                options[name] = self.client.files.create(file=file, purpose="fine-tune").id
        try:
            return self.client.fine_tuning.jobs.create(
                model=self.settings.model,
                method={
                    "type": "supervised",
                    "supervised": {"hyperparameters": {"n_epochs": self.settings.epochs or "auto"}},
                },
                metadata={MARK: self.mark},
                **options,
            )
        except (openai.BadRequestError, openai.NotFoundError, openai.PermissionDeniedError) as error:
            raise ServiceError(
                f"The service does not tune {self.settings.model} ({reason(error)}). {ELSEWHERE}"
            ) from None

    def watch(self, name: str) -> None:
        """Tell the job's events until it ends, and note the model's name. Raises ServiceError where there is none."""
        while True:
            job = patiently(self.client.fine_tuning.jobs.retrieve, self.settings, name)
            self.tell_events(name)
            if job.status == "succeeded" and job.fine_tuned_model:
                self.note(model=job.fine_tuned_model)
                return
            if job.status in ("failed", "cancelled"):
                del self.state["job"]  # so that the next run makes a new one
                self.note()
                why = without_key(job.error.message) if job.error and job.error.message else "no reason told"
                raise ServiceError(
                    f"The fine-tuning of {job.model} {job.status} ({why}).".replace(" cancelled", " was cancelled")
                )
            time.sleep(self.settings.poll_every)

    def tell_events(self, name: str) -> None:
        """Tell the events since the last one told, oldest first."""

        def since_last() -> list[Any]:
            new = []
            for event in self.client.fine_tuning.jobs.list_events(name, limit=100):  # newest first
                if event.id == self.state.get("event"):
                    break
                new.append(event)
            return new[::-1]

        for event in patiently(since_last, self.settings):
            self.tell(without_key(event.message))
            self.note(event=event.id)
