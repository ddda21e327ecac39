"""An evaluation from its settings to its report."""

import json
import platform
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from ..files import write_whole
from ..pairs.clip_filter import ClipScorer
from ..pairs.run_folder import claimed, read_settings
from .clip_scores import ClipJudge
from .inversion import InvertedP2P
from .judge import Judge, JudgeSettings, both_orders, wins
from .methods import Function, Ip2p, Method, NoEdit
from .metrics import Metrics
from .perceptual import Dino, Lpips
from .report import Report
from .samples import Sample
from .sdedit import SDEdit
from .settings import DECIDING, EvaluateSettings, flag
from .sources import open_samples
from .store import Store, Task
from .summary import Point, summarize
from .sweep import Sweep
from .text2live import Text2LIVE
from .text2live_losses import Weights

PLAIN = Weights(templates=("{}",), screen=0.0)
"""Of a CLIP that knows no word of photographs and screens, the shapes world's."""


def evaluate(settings: EvaluateSettings) -> list[Path]:
    """Edit, score and report; the files of the report. Several processes of `accelerate launch` share the work.

    Raises ValueError or OSError, in a sentence, for what can't be evaluated; what is done is in the folder.
    """
    state = PartialState(cpu=settings.device == "cpu")
    folder = Path(settings.report)
    with ExitStack() as stack:
        if state.is_main_process:
            stack.enter_context(claimed(folder))
            check_settings(settings, folder)
        state.wait_for_everyone()
        samples = open_samples(settings.data, settings.split, settings.num_samples, settings.seed, settings.turns)
        device, dtype = where(settings, state)
        tasks = [
            Task(method, setting, settings.seed * 1000 + seed)
            for method, dials in methods(settings, device, dtype)
            for setting in dials
            for seed in range(settings.seeds)
        ]
        sweep = Sweep(
            Store(folder, settings.image_format, state.process_index),
            metrics(settings, device),
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
        judged = judge(settings, points, samples, store) if settings.judge else {}
        report = Report(
            title=f"Edits of {settings.data}",
            points=points,
            samples=samples,
            store=store,
            about=about(settings),
            problems=problems,
            judged=judged,
        )
        return report.write(folder)


def check_settings(settings: EvaluateSettings, folder: Path) -> None:
    """Keep in the folder what scores depend on. Raises ValueError where it holds an evaluation of something else."""
    told = {name: getattr(settings, name) for name in DECIDING}
    earlier = read_settings(folder) or told
    for name, value in told.items():
        if earlier.get(name) != value:
            held = f"{flag(name)} {earlier.get(name)}, not {value}"
            raise ValueError(f"{folder} holds an evaluation with {held}: give another --report.")
    write_whole(folder / "settings.json", json.dumps(told, indent=2).encode())


def where(settings: EvaluateSettings, state: PartialState) -> tuple[torch.device, torch.dtype]:
    """Where to compute, and how exactly."""
    device = torch.device(settings.device) if settings.device else state.device
    return device, getattr(torch, settings.dtype or ("float32" if device.type == "cpu" else "float16"))


def methods(
    settings: EvaluateSettings, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Method, list[dict[str, float]]]]:
    """The methods, each with the settings of its dials."""
    at: dict[str, Any] = {"device": str(device), "dtype": dtype}
    guided = {"guidance_scale": settings.base_guidance_scale}
    for name in settings.methods:
        if name == "ip2p":
            for given in settings.model:
                called, equals, model = given.partition("=")
                called, model = (called, model) if equals else ("ip2p", given)
                arguments = {} if settings.resolution is None else {"resolution": settings.resolution}
                yield (
                    Ip2p(model, arguments, name=called, **at),
                    grid(
                        image_guidance_scale=settings.image_guidance_scales,
                        guidance_scale=settings.guidance_scales,
                        steps=settings.steps,
                    ),
                )
        elif name.startswith("sdedit"):
            prompt: Any = "instruction" if name.endswith("instruction") else "caption"
            called = "SDEdit" if prompt == "caption" else "SDEdit, instruction"
            yield (
                SDEdit(settings.base, guided, prompt, called, **at),
                grid(strength=settings.strengths, steps=settings.steps),
            )
        elif name.startswith("p2p"):
            inversion: Any = "ddim" if name.endswith("ddim") else "null_text"
            for steps in settings.steps:
                method = InvertedP2P(settings.base, inversion, steps, settings.base_guidance_scale, **at)
                yield method, grid(self_replace_steps=settings.self_replace_steps)
        elif name == "text2live":
            live = Text2LIVE(device=str(device))
            if settings.clip_model == "shapes":
                live = Text2LIVE("shapes", None, PLAIN, device=str(device))
            yield live, grid(iterations=settings.iterations)
        else:
            yield Function(name), [{}]
    yield NoEdit(), [{}]


def grid(**dials: list[Any]) -> list[dict[str, float]]:
    """Every combination of the dials."""
    return [dict(zip(dials, values, strict=True)) for values in product(*dials.values())]


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


def judge(settings: EvaluateSettings, points: list[Point], samples: list[Sample], store: Store) -> dict[str, Any]:
    """How often the first method's best setting is preferred to each other method's."""
    asked = Judge(
        JudgeSettings(
            model=str(settings.judge),
            base_url=settings.base_url,
            concurrency=settings.concurrency,
            max_requests=settings.max_requests,
            max_cost=settings.max_cost,
            price_prompt=settings.price_prompt,
            price_completion=settings.price_completion,
        ),
        store,
    )
    best: dict[str, Point] = {}
    for point in points:
        # Where there are neither captions nor an oracle, the first setting of each method.
        name = "right" if "right" in point.means else "directional_similarity"
        known = name in point.means
        if point.method not in best or (known and point.means[name].mean > best[point.method].means[name].mean):
            best[point.method] = point
    first, *others = [point for method, point in best.items() if method != "no edit"]
    shown = [sample for sample in samples if sample.counted and sample.after is None][: settings.judge_samples]
    told: dict[str, Any] = {}
    for other in others:
        keys = first.keys[0], other.keys[0]
        verdicts = asked.ask([question for sample in shown for question in both_orders(sample, *keys)])
        told[f"{first.method} over {other.method}"] = wins(shown, *keys, verdicts)
    return told


def about(settings: EvaluateSettings) -> dict[str, Any]:
    """What a report is made by: the settings, and the versions of what computed it. Never where the judge is."""
    told = {each.name: getattr(settings, each.name) for each in fields(settings) if each.name != "base_url"}
    libraries = ("torch", "diffusers", "transformers", "open_clip_torch", "accelerate")
    return {
        "settings": told,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
    }
