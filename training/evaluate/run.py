"""An evaluation from its settings to its report."""

import json
import platform
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from ... import __version__
from ...ip2p_pipeline.devices import find_device, find_dtype
from ...ip2p_pipeline.errors import is_out_of_memory
from ..files import write_whole
from ..instructions.budget import BudgetSpentError
from ..instructions.service import ServiceError
from ..pairs.clip_filter import ClipScorer
from ..pairs.run_folder import claimed, read_settings
from .best_of import least_image_similarity
from .clip_scores import ClipJudge
from .commits import commits
from .judge import Judge, Judgement, JudgeSettings, both_orders, longest, wins
from .metrics import Metrics
from .perceptual import Dino, Lpips
from .plan import check_captions, plan
from .report import Report
from .rows import content_here, rows_on_hub
from .samples import Sample
from .settings import DECIDING, EvaluateSettings, flag
from .sources import open_samples
from .store import Store, Task
from .summary import Point, best_point, summarize
from .sweep import Sweep

UNREAD = "x" * 1000
"""Stands for the longest instruction of data that a dry run does not read."""
NOT_TOLD = ("base_url", "report", "dry_run")
LIBRARIES = ("torch", "diffusers", "transformers", "open_clip_torch", "timm", "torchmetrics", "accelerate")


def evaluate(settings: EvaluateSettings) -> list[Path]:
    """Edit, score and report; the files of the report. Several processes of `accelerate launch` share the work.

    Raises ValueError or OSError, in a sentence, for what can't be evaluated, and where the judge stops early, which the
    report tells, too; what is done is in the folder.
    """
    try:
        return evaluated(settings)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            "There is too little memory: give a lower --batch-size or --resolution. What was made is kept."
        ) from error


def evaluated(settings: EvaluateSettings) -> list[Path]:
    """Edit, score and report, see `evaluate`."""
    # By themselves processes wait 10 minutes for each other's edits, then all are killed.
    state = PartialState(cpu=settings.device is not None, timeout=timedelta(days=1))
    folder = Path(settings.report)
    if settings.judge:
        judge_settings(settings).client_options()  # a key that is not there is told now, not after hours of edits
    with ExitStack() as stack:
        if state.is_main_process:
            stack.enter_context(claimed(folder))
            check_settings(settings, folder)
        state.wait_for_everyone()
        samples, tasks = work(settings, state)
        sweep = Sweep(
            Store(folder, settings.image_format, state.process_index),
            metrics(settings, where(settings, state)[0]),
            settings.batch_size,
            state.process_index,
            state.num_processes,
        )
        sweep.run(tasks, samples)
        problems = {problem: count for told in gather_object([dict(sweep.problems)]) for problem, count in told.items()}
        state.wait_for_everyone()
        if not state.is_main_process:
            return []
        store = Store(folder, settings.image_format)
        points = summarize(tasks, samples, store)
        least = least_image_similarity(settings.clip_model)
        judgement = judge(settings, points, samples, store, least) if settings.judge else Judgement()
        report = Report(
            title=f"Edits of {settings.data}",
            points=points,
            samples=samples,
            store=store,
            about=about(settings, points, *where(settings, state)),
            problems=problems,
            least=least,
            judgement=judgement,
        )
        written = report.write(folder)
        if judgement.stopped:
            raise ValueError(f"{judgement.stopped} The report in {folder} has what was judged before.")
        return written


def foretold(settings: EvaluateSettings) -> list[str]:
    """What an evaluation takes, a line a method; with a judge at most its requests, tokens and bill."""
    state = PartialState(cpu=settings.device is not None)
    known = None
    if settings.turns == "single" and settings.held_out is None:  # else only a dataset's rows tell what is edited
        known = rows_on_hub(settings.data, settings.split, settings.num_samples)
    if known is None:
        samples, tasks = work(settings, state)
        edited, judged = len(samples), len(shown_to_judge(samples, settings))
        instructions = [sample.edit_prompt for sample in samples]
    else:
        tasks, edited, judged, instructions = plan(settings, *where(settings, state)), known, known, [UNREAD]
    counts = Counter(task.method.name for task in tasks)
    told = [
        f"{name}: {count * edited:,} edits, {count:,} of each of {edited:,} samples" for name, count in counts.items()
    ]
    if settings.judge:
        requests = 2 * min(settings.judge_samples, judged) * max(0, len(counts) - 2)
        most = longest(instructions, settings.judge_max_tokens)
        prompt, completion = requests * most.prompt, requests * most.completion
        cost = settings.cost(prompt, completion)
        told.append(
            f"judge: {requests:,} requests, at most {prompt:,} prompt tokens and {completion:,} completion tokens"
            + ("" if cost is None else f": at most {cost:,.2f}")
        )
    return told


def work(settings: EvaluateSettings, state: PartialState) -> tuple[list[Sample], list[Task]]:
    """The samples, and what is to be made of each. Raises ValueError or OSError for what can't be."""
    asked = settings.data, settings.split, settings.num_samples, settings.seed, settings.turns, settings.held_out
    samples = open_samples(*asked)
    if not samples:
        raise ValueError(f"{settings.data} has nothing to edit.")
    if not settings.metrics and not any(sample.edit for sample in samples):
        raise ValueError("--metrics is empty, and only the shapes world has an oracle: nothing would be scored.")
    tasks = plan(settings, *where(settings, state))
    if settings.judge and len({task.method.name for task in tasks}) < 3:  # one of them is no edit
        raise ValueError("--judge compares methods: give another one with --methods, or a second --model.")
    check_captions(tasks, samples)
    return samples, tasks


def check_settings(settings: EvaluateSettings, folder: Path) -> None:
    """Keep in the folder what scores depend on. Raises ValueError where it holds an evaluation of something else."""
    told = {name: getattr(settings, name) for name in DECIDING}
    earlier = read_settings(folder) or told
    for name, value in told.items():
        if earlier.get(name) != value:
            held = f"{flag(name)} {earlier.get(name)}, not {value}"
            raise ValueError(f"{folder} holds an evaluation with {held}: give another --report.")
    content = content_here(settings.data, settings.split)
    if earlier.get("content", content) != content:
        raise ValueError(
            f"{folder} holds an evaluation of {settings.data} as it was before it was changed: give another --report."
        )
    told |= {"content": content} if content else {}
    write_whole(folder / "settings.json", json.dumps(told, indent=2).encode())


def where(settings: EvaluateSettings, state: PartialState) -> tuple[torch.device, torch.dtype]:
    """Where to compute, and how exactly."""
    device = find_device(settings.device) if settings.device else state.device
    if device == torch.device("cuda"):  # of several GPUs each process takes one
        device = torch.device("cuda", state.local_process_index % max(1, torch.cuda.device_count()))
    return device, find_dtype(settings.dtype, device)


def metrics(settings: EvaluateSettings, device: torch.device) -> Metrics:
    """What is measured."""
    clip = None
    if "clip" in settings.metrics:
        scorer = ClipScorer(settings.clip_model, settings.clip_pretrained, device)
        clip = ClipJudge(scorer, settings.as_published)
    return Metrics(
        clip=clip,
        pixels="pixels" in settings.metrics,
        dino=Dino(device) if "dino" in settings.metrics else None,
        lpips=Lpips(device) if "lpips" in settings.metrics else None,
    )


def judge(
    settings: EvaluateSettings, points: list[Point], samples: list[Sample], store: Store, least: float
) -> Judgement:
    """How often the first method's best setting is preferred to each other method's."""
    asked = Judge(judge_settings(settings), store)
    names = [name for name in dict.fromkeys(point.method for point in points) if name != "no edit"]
    first, *others = (best_point([point for point in points if point.method == name], least) for name in names)
    kept = shown_to_judge(samples, settings)
    stopped = ""
    preferred = {}
    for other in others:
        keys = first.keys[0], other.keys[0]
        shown = [each for each in kept if all(store.has_picture(key, each.id) for key in keys)]
        shown = shown[: settings.judge_samples]
        questions = [question for sample in shown for question in both_orders(sample, *keys)]
        try:
            if not stopped:
                asked.ask(questions)
        except (BudgetSpentError, ServiceError) as error:
            stopped = str(error)
        told = wins(shown, *keys, asked.verdicts(questions))
        preferred[f"{first.method}, {first.label}, over {other.method}, {other.label}"] = told
    return Judgement(preferred, asked.spent(), stopped)


def shown_to_judge(samples: Sequence[Sample], settings: EvaluateSettings) -> list[Sample]:
    """Those that a judge can be shown, in an order that the seed draws: of sessions only those of one turn, for one
    picture and one instruction tell all."""
    shown = [sample for sample in samples if sample.counted and sample.after is None]
    random.Random(settings.seed).shuffle(shown)
    return shown


def judge_settings(settings: EvaluateSettings) -> JudgeSettings:
    """Which model judges, and how it is asked."""
    return JudgeSettings(
        model=str(settings.judge),
        base_url=settings.base_url,
        temperature=settings.judge_temperature,
        max_tokens=settings.judge_max_tokens,
        concurrency=settings.concurrency,
        max_requests=settings.max_requests,
        max_cost=settings.max_cost,
        price_prompt=settings.price_prompt,
        price_completion=settings.price_completion,
    )


def about(
    settings: EvaluateSettings, points: Sequence[Point], device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """What a report is made by: the settings, and what computed it last. Never where it or the judge is."""
    told = {each.name: getattr(settings, each.name) for each in fields(settings) if each.name not in NOT_TOLD}
    versions = {"ip2p": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in LIBRARIES}
    models = {run["model"] for point in points for run in point.made_by if isinstance(run.get("model"), str)}
    told = {"settings": told, "computed": {"device": device.type, "dtype": str(dtype)}, "versions": versions}
    return told | {"commits": commits(models, settings.data)}
