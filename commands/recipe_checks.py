"""What later stages need and a machine may lack: told before the first one, which may cost money or days."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .pairs import check_engine
from .recipe_settings import Recipe
from .recipe_stages import NAMING, Stage

LOCAL = ("/", "./", "../", "~")
"""What begins so is a path, and no id of the Hub."""


def check_machine(recipe: Recipe, stages: list[Stage], parsed: Mapping[str, Any]) -> None:
    """Raise ValueError or OSError, in a sentence, for what a stage would stumble over.

    stages: those that have never been done; others may have been on another machine
    parsed: the settings of each stage, by its name
    """
    for stage in stages:
        settings = parsed[stage.name]
        places = {name: Path(name) for name in stage.needs if name in parsed}
        check_paths(stage, settings, set(stage.overridden(places)))
        if stage.name == "pairs":
            check_engine(settings)
        if getattr(settings, "optimizer", None) == "adamw8bit" and find_spec("bitsandbytes") is None:
            raise ValueError(f"The stage {stage.name} has the optimizer adamw8bit: pip install bitsandbytes.")
        cpu = getattr(settings, "cpu", False) or getattr(settings, "device", None) is not None
        if stage.parallel and recipe.processes > 1 and not cpu:
            check_gpus(stage, recipe.processes)


def check_paths(stage: Stage, settings: Any, overridden: set[str]) -> None:
    """Raise FileNotFoundError for a path that is not there, where no result of a stage before stands in for it."""
    for name in sorted(set(NAMING) - overridden):
        given = getattr(settings, name, None)
        for each in given if isinstance(given, list) else [given]:
            if str(each).startswith(LOCAL) and not Path(str(each)).expanduser().exists():
                raise FileNotFoundError(f"There is no {each}, which the section {stage.section} names as {name}.")


def check_gpus(stage: Stage, processes: int) -> None:
    """Raise ValueError where the processes of a stage would share a GPU; they may share a CPU."""
    import torch

    count = torch.cuda.device_count()
    if 0 < count < processes:
        raise ValueError(
            f"The recipe says processes: {processes}, a GPU each for {stage.name}, and this machine has {count}: say "
            f"processes: {count}, and where it trains accumulation, which makes up for it."
        )
