"""`ip2p dataset instructions`, `tune` and `show`: the text stage as commands."""

import json
import random
from collections import Counter
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from ..training.files import stamp, write_whole
from ..training.instructions.answers import Answers
from ..training.instructions.budget import BudgetSpentError, estimate_bill
from ..training.instructions.captions import CaptionReport, CaptionSettings, sample_captions
from ..training.instructions.cleaning import CleaningReport, Judge, clean
from ..training.instructions.report import write_report
from ..training.instructions.run import Parsing, ask, fingerprint, read, write
from ..training.instructions.seeds import load_seeds
from ..training.instructions.triplets import Backend, Caption, Request, digest
from ..training.pairs.run_folder import claimed
from .instructions_settings import LAION, InstructionsSettings, Model, ShowSettings, TuneSettings
from .report import say

TEXTS = ("original_prompt", "edit_prompt", "edited_prompt")


def instructions(settings: InstructionsSettings) -> int:
    """Make the dataset of instructions, or with `dry_run` tell what it takes. Gives the exit status."""
    folder = Path(settings.output or f"instructions-{settings.backend}")
    with claimed(folder):
        return make(settings, folder)


def make(settings: InstructionsSettings, folder: Path) -> int:
    """Make it in a folder that no other run works in: two would write over each other's answers."""
    backend = make_backend(settings)
    captions, caption_report = find_captions(settings, folder)
    requests = [Request(caption, number) for caption in captions for number in range(settings.per_caption)]
    path = folder / "answers" / f"{fingerprint(backend)}.jsonl"
    with closing(Answers(path)) as answers:
        if settings.dry_run:
            bill = estimate_bill(backend.estimate, requests, answers, settings)
            say(
                f"{bill.requests:,} requests, about {bill.prompt_tokens:,} prompt tokens and "
                f"{'' if bill.measured else 'at most '}{bill.completion_tokens:,} completion tokens"
                + ("" if bill.cost is None else f": about {bill.cost:,.2f}")
                + f"; {len(answers):,} answers are there already."
            )
            return 0
        try:
            ask(requests, backend, answers)
            spent = None
        except BudgetSpentError as error:
            spent = error
        parsing, cleaning = Parsing(), CleaningReport()
        triplets = clean(read(requests, backend, answers, parsing), settings, cleaning, make_judge(settings, folder))
        bar = tqdm(triplets, total=len(requests), desc="cleaning", unit="triplet")
        kept = write(bar, folder / "triplets.parquet")
    write_report(folder, caption_report, parsing, cleaning)
    if spent:
        raise spent
    say(f"{folder / 'triplets.parquet'}  {kept:,} triplets of {len(captions):,} captions; see {folder / 'report.md'}")
    return 0


def make_backend(settings: InstructionsSettings) -> Backend:
    """What makes the triplets. Its libraries are imported when it is chosen."""
    if settings.backend == "shapes":
        from ..training.instructions.grammar import GrammarBackend

        return GrammarBackend(settings.seed)
    if settings.backend == "local":
        from ..training.instructions.local import LocalBackend
        from ..training.instructions.local_settings import LocalSettings

        return LocalBackend(
            LocalSettings(
                model=str(settings.model),
                device=settings.device,
                dtype=settings.dtype,
                adapter=settings.adapter,
                temperature=settings.temperature,
                max_new_tokens=settings.max_tokens,
                batch_size=settings.batch_size,
            ),
            settings.seed,
        )
    from ..training.instructions.batches import BatchBackend, BatchSettings
    from ..training.instructions.hosted import HostedBackend

    hosted = BatchSettings(
        **service(settings),
        max_requests=settings.max_requests,
        max_cost=settings.max_cost,
        price_prompt=settings.price_prompt,
        price_completion=settings.price_completion,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        examples=settings.examples,
        concurrency=settings.concurrency,
    )
    training, _ = load_seeds(settings.seeds)
    return (BatchBackend if settings.batch_api else HostedBackend)(hosted, training, settings.seed)


def service(settings: Model) -> dict[str, Any]:
    """How a service is reached."""
    return {name: getattr(settings, name) for name in ("model", "base_url", "timeout", "backoff")}


def find_captions(settings: InstructionsSettings, folder: Path) -> tuple[list[Caption], CaptionReport]:
    """The captions of a run: those that it sampled before, or a fresh sample, which is kept in the folder.

    A source on this machine that was changed is sampled again.
    """
    if settings.backend == "shapes" and settings.captions is None:
        from ..training.instructions.grammar import grammar_captions

        captions = list(grammar_captions(settings.num_captions, settings.seed))
        return captions, CaptionReport(read=len(captions), clean=len(captions), sampled=len(captions))

    source = settings.captions or LAION
    chosen = {each.name: getattr(settings, each.name) for each in fields(CaptionSettings)}
    changed = stamp(Path(source))
    sampled_as = digest(json.dumps([source, settings.seed, chosen, *([changed] if changed else [])]))
    path = folder / f"captions-{sampled_as}.json"
    if path.exists():
        told = json.loads(path.read_text(encoding="utf-8"))
        return [Caption(text) for text in told.pop("captions")], CaptionReport(**told)
    report = CaptionReport()
    with tqdm(desc="captions", unit="row") as bar:
        captions = sample_captions(source, settings, settings.seed, report, bar.update)
    write_whole(path, json.dumps({**vars(report), "captions": [caption.text for caption in captions]}).encode())
    return captions, report


def make_judge(settings: InstructionsSettings, folder: Path) -> Judge | None:
    """The moderation service, if one is asked for."""
    if settings.moderation_model is None:
        return None
    from ..training.instructions.moderation_service import ModerationService
    from ..training.instructions.service import ServiceSettings

    chosen = ServiceSettings(**{**service(settings), "model": settings.moderation_model})
    return ModerationService(chosen, Answers(folder / "answers" / "moderation.jsonl")).judge


def tune(settings: TuneSettings) -> int:
    """Tune a language model on the seeds. Gives the exit status."""
    folder = Path(settings.output or "instructions-tuned")
    training, held_out = load_seeds(settings.seeds)
    if settings.backend == "openai":
        from ..training.instructions.tuning import TuningSettings
        from ..training.instructions.tuning import tune as tune_hosted

        chosen = TuningSettings(**service(settings), epochs=settings.epochs, suffix=settings.suffix)
        name = tune_hosted(chosen, training, held_out, folder, settings.seed, say)
        say(f"The tuned model is {name}: ip2p dataset instructions --model {name} --examples 0")
        return 0
    from ..training.instructions.local_settings import LocalTuneSettings
    from ..training.instructions.local_tuning import tune as tune_local

    losses = tune_local(
        LocalTuneSettings(
            model=str(settings.model),
            device=settings.device,
            dtype=settings.dtype,
            output=folder,
            epochs=settings.epochs or 3,
            rank=settings.rank,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        ),
        training,
        held_out,
    )
    say(f"{folder}  held-out loss {losses[0]:.3f} before, {losses[-1]:.3f} after")
    return 0


def show(settings: ShowSettings) -> int:
    """Print a sample of a dataset and its statistics. Gives the exit status."""
    path = settings.dataset / "triplets.parquet" if settings.dataset.is_dir() else settings.dataset
    if not path.exists():
        raise ValueError(f"There is no dataset of triplets at {settings.dataset}.")
    table = pq.read_table(path)
    rows = table.num_rows
    lacking = [name for name in TEXTS if name not in table.column_names]
    if lacking:
        raise ValueError(f"{path} holds no triplets: it lacks {', '.join(lacking)}.")
    say(f"{settings.dataset}  {rows:,} triplets\n")
    if not rows:
        return 0
    given = table["kind"].to_pylist() if "kind" in table.column_names else [""] * rows
    for row in random.Random(settings.seed).sample(range(rows), min(settings.sample, rows)):
        told = {name: table[name][row].as_py() for name in TEXTS}
        say(f"{told['original_prompt']}\n  → {told['edit_prompt']}  [{given[row] or 'no kind'}]")
        say(f"  = {told['edited_prompt']}\n")
    kinds = Counter(given)
    say("kinds: " + ", ".join(f"{kind or 'none'} {count / rows:.1%}" for kind, count in kinds.most_common()))
    for name in TEXTS:
        lengths = sorted(len(text.split()) for text in table[name].to_pylist())
        low, middle, high = (lengths[int(share * (rows - 1))] for share in (0.05, 0.5, 0.95))
        say(f"{name}: {middle} words in the middle, {low} to {high} in nine of ten")
    first = Counter(text.split()[0].lower() for text in table["edit_prompt"].to_pylist())
    say("instructions begin: " + ", ".join(f"{word} {count / rows:.1%}" for word, count in first.most_common(8)))
    distinct = {name: len(set(table[name].to_pylist())) for name in ("edit_prompt", "original_prompt")}
    say(f"distinct: {distinct['edit_prompt']:,} instructions, {distinct['original_prompt']:,} captions")
    return 0
