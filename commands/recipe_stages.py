"""The stages of a recipe: what each runs, on what, what it gives, and what is told of it."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ip2p_pipeline.inside import INSIDE
from ..training.shapes.models import SHAPES_BASE, SHAPES_CLIP
from .recipe_settings import Recipe

Places = Mapping[str, Path]
"""The folders of the stages before."""
NAMING = (
    "adapter", "base", "captions", "clip_model", "clip_pretrained", "data", "model", "refilter", "seeds", "vae",
)  # fmt: skip
"""Settings that may name a file or a folder of this machine."""
FUNCTIONS = ("methods", "nsfw_check")
"""Settings that may name functions of the user's own, as module:function."""
SHAPES = {"model": SHAPES_BASE, "base": SHAPES_BASE, "clip_model": SHAPES_CLIP}
"""The folders inside this package that "shapes" names, but for commands that take an editor."""
SPENDING = ("max_requests", "max_cost", "price_prompt", "price_completion", "concurrency", "timeout", "backoff")
DRAWING = ("engine", "workers", "gpus_per_worker", "ray_address", "batch_size", "device")
JUDGING = (*SPENDING, "batch_size", "device")
TRAINING = ("save_every", "tracker", "workers", "ema_on_cpu", "compile", "cpu", "gradient_checkpointing")


@dataclass(frozen=True)
class Stage:
    """A command of a recipe.

    name:      of the stage and its folder
    command:   of `ip2p`
    needs:     the stages whose results go in, of those that the recipe has
    arguments: of the command, given the folders of those stages
    output:    the flag of the folder
    result:    patterns of the files that the stage is for
    figures:   what is told of it when it is done, from its folder
    parallel:  whether several processes share it
    own:       section of the recipe, where that is not named as the command
    free:      settings that may change when it goes on: limits, and how its work is shared out and kept
    kept:      patterns of what its folder keeps whatever the settings are: a folder that is new takes them over
    """

    name: str
    command: str
    needs: tuple[str, ...]
    arguments: Callable[[Places], list[str]]
    output: str
    result: tuple[str, ...]
    figures: Callable[[Path], dict[str, str]]
    parallel: bool = False
    own: str | None = None
    free: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        """Of the recipe."""
        return self.own or self.command

    def argv(self, places: Places, config: Path, folder: Path, processes: int) -> list[str]:
        """The command line of its process."""
        package = __name__.partition(".commands")[0]
        launcher = [sys.executable, "-m"]
        if self.parallel and processes > 1:
            launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
        return [*launcher, f"{package}.cli", *self.command.split(), *self.flags(places, config, folder)]

    def flags(self, places: Places, config: Path, folder: Path) -> list[str]:
        """The arguments of its command; what the stages before gave stands in for what the recipe says."""
        return ["--config", str(config), *self.arguments(places), self.output, str(folder)]

    def overridden(self, places: Places) -> dict[str, str]:
        """The settings, by name, in whose place stand results of the stages before."""
        words = self.arguments(places)
        flags = zip(words[::2], words[1::2], strict=False)  # a stage that takes one argument has no flag
        return {flag.removeprefix("--"): value for flag, value in flags}


def instructions_figures(folder: Path) -> dict[str, str]:
    """Triplets that came through the cleaning."""
    told = json.loads((folder / "report.json").read_text())["triplets"]
    return {"triplets": f"{told['kept']:,} of {told['seen']:,}"}


def pairs_figures(folder: Path) -> dict[str, str]:
    """Pairs that the filter kept."""
    told = json.loads((folder / "report.json").read_text())
    return {"pairs": f"{told['kept']:,} of {told['candidates']:,}", "of triplets": f"{told['with_pairs']:,}"}


def training_figures(folder: Path) -> dict[str, str]:
    """The loss when it began and in the end, and how often the oracle was right."""
    losses = [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
    few = max(1, len(losses) // 20)
    told = {"loss": f"{sum(losses[:few]) / few:.4f} → {sum(losses[-few:]) / few:.4f}"}
    path = folder / "validation.jsonl"
    if path.exists():
        last = json.loads(path.read_text().splitlines()[-1])
        if "right" in last:
            told["right by the oracle"] = f"{last['right']:.1%}"
        if "validation_loss" in last:
            told["held-out loss"] = f"{last['validation_loss']:.4f}"
    return told


def evaluation_figures(folder: Path) -> dict[str, str]:
    """The best that each method came to, by the oracle where it knows, else by CLIP's direction."""
    told: dict[str, dict[str, float]] = {}
    for point in json.loads((folder / "report.json").read_text())["points"]:
        for name in ("right", "directional_similarity"):
            if name in point["scores"]:
                best = told.setdefault(name, {})
                best[point["method"]] = max(best.get(point["method"], -1.0), point["scores"][name]["mean"])
    name, style = ("right by the oracle", "{:.1%}") if "right" in told else ("direction", "{:.3f}")
    best = told.get("right") or told.get("directional_similarity", {})
    return {f"{method}, {name}": style.format(value) for method, value in best.items()}


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages of a recipe, in their order. Raises ValueError for a section that is none."""
    known = {
        "instructions": Stage(
            "instructions",
            "dataset instructions",
            (),
            lambda _: [],
            "-o",
            ("triplets.parquet",),
            instructions_figures,
            free=SPENDING,
            kept=("answers", "captions-*.json"),  # told apart there by what they were made of, and paid for
        ),
        "pairs": Stage(
            "pairs",
            "dataset pairs",
            ("instructions",),
            lambda places: [str(places["instructions"])],
            "-o",
            ("data/*.parquet",),
            pairs_figures,
            free=DRAWING,
        ),
        "train": Stage(
            "train",
            "train",
            ("pairs",),
            lambda places: ["--data", str(places["pairs"])] if "pairs" in places else [],
            "-o",
            ("pipeline/**/*",),
            training_figures,
            parallel=True,
            free=TRAINING,
        ),
        "evaluate": Stage(
            "evaluate",
            "evaluate",
            ("train",),
            lambda places: ["--model", str(places["train"] / "pipeline")] if "train" in places else [],
            "--report",
            ("report.csv",),  # the page and the JSON name folders of this machine
            evaluation_figures,
            parallel=True,
            free=JUDGING,
        ),
        "guidance": Stage(
            "guidance",
            "distil",
            ("train", "pairs"),
            lambda places: [*distil_arguments(places), "--stage", "guidance"],
            "-o",
            ("pipeline/**/*",),
            training_figures,
            parallel=True,
            own="distil guidance",
            free=TRAINING,
        ),
        "distil": Stage(
            "distil",
            "distil",
            ("train", "guidance", "pairs"),
            distil_arguments,
            "-o",
            ("pipeline/**/*",),
            training_figures,
            parallel=True,
            free=TRAINING,
        ),
    }
    names = {stage.section for stage in known.values()}
    strange = [name for name in recipe.sections if name not in names]
    if strange:
        raise ValueError(
            f"The recipe {recipe.name} has a section {strange[0]!r}: sections are {', '.join(sorted(names))}, "
            "package, processes and smoke."
        )
    present = [stage for stage in known.values() if stage.section in recipe.sections]
    if "dataset pairs" in recipe.sections and "dataset instructions" not in recipe.sections:
        raise ValueError(
            f"The recipe {recipe.name} makes pairs of no triplets: give it a section dataset instructions."
        )
    if recipe.packaging and not {"train", "distil"} & set(recipe.sections):
        raise ValueError(f"The recipe {recipe.name} has nothing to package: give it a section train or distil.")
    if not present:
        raise ValueError(f"The recipe {recipe.name} has no stage.")
    return present


def distil_arguments(places: Places) -> list[str]:
    """What was trained, or that with its guidance distilled, and the data it was trained on."""
    teacher = places.get("guidance") or places.get("train")
    told = ["--model", str(teacher / "pipeline")] if teacher else []
    told += ["--data", str(places["pairs"])] if "pairs" in places else []
    return told + (["--stage", "steps"] if "guidance" in places else [])


def outcome(folder: Path, patterns: Sequence[str]) -> str:
    """A hash of the files that a stage is for, and of their names."""
    digest = hashlib.sha256()
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    for path in sorted(paths):
        digest.update(f"{path.relative_to(folder).as_posix()}\n{content_of(path)}\n".encode())
    return digest.hexdigest()


def content_of(path: Path) -> str:
    """A hash of a file, or of all files in a folder and their names, wherever they lie."""
    if path.is_dir():
        return outcome(path, ("**/*",))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if path.name == "config.json":  # diffusers notes in it the folder that a part came from
            digest.update(b"".join(line for line in file if b'"_name_or_path":' not in line))
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def contents(stage: Stage, settings: Any, places: Places) -> dict[str, str]:
    """Hashes of the files and folders that a stage's settings name, so that it is run anew when one has changed."""
    found = {}
    for name in FUNCTIONS:
        given = getattr(settings, name, None)
        for each in given if isinstance(given, list) else [given]:
            module = Path(f"{str(each).partition(':')[0].replace('.', '/')}.py")
            if ":" in str(each) and module.is_file():
                found[str(each)] = content_of(module)
    for name in sorted(set(NAMING) - set(stage.overridden(places))):
        given = getattr(settings, name, None)
        for at, each in enumerate(given if isinstance(given, list) else [given]):
            path = None if each is None else named_path(stage, name, str(each))
            if path is not None:
                found[f"{name} {at}"] = content_of(path)
                if name == "data" and path.suffix.lower() in (".csv", ".tsv"):
                    found[f"{name} {at}, pictures"] = content_of_pictures(path)
    return found


def content_of_pictures(path: Path) -> str:
    """A hash of the pictures that a CSV file names, as far as they can be read."""
    from ..training.pairs.import_csv import PICTURES, CsvLayout
    from ..training.pairs.pictures import SkipError

    layout, digest = CsvLayout(path), hashlib.sha256()
    for _, row in layout.units(0):
        for name in (row.get(column) for column in PICTURES):
            try:
                digest.update(hashlib.sha256(layout.folder.read(name.strip()) if name else b"").digest())
            except SkipError as error:
                digest.update(str(error).encode())
    return digest.hexdigest()


def named_path(stage: Stage, setting: str, value: str) -> Path | None:
    """Where the file or folder is that a setting names; None for what is not on this machine."""
    if stage.name == "evaluate" and setting == "model" and not Path(value).exists():
        value = value.partition("=")[2] or value  # NAME=MODEL
    edits = setting == "model" and stage.command in ("evaluate", "distil")
    if edits and value in INSIDE:
        return INSIDE[value]
    if value == "shapes":
        return SHAPES.get(setting)
    path = Path(value.removeprefix("local-dir:")).expanduser()  # open_clip's word for a folder
    return path if path.exists() else None


def deciding(stage: Stage, section: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """The settings of a section that the stage's result depends on: without those that may change, and those in whose
    place stand results of the stages before."""
    left_out = {*stage.free, *stage.overridden(places)}
    return {name: value for name, value in section.items() if name not in left_out}


def inputs(
    section: Mapping[str, Any], processes: int, outcomes: Mapping[str, str], named: Mapping[str, str], version: str
) -> str:
    """A hash of all that a stage's result depends on; where it is another, the stage is run anew beside the old one.

    outcomes: of the stages that go in, by their names
    named:    hashes of the files and folders that the section names
    """
    told = {
        "settings": dict(section),
        "processes": processes,
        "from": dict(outcomes),
        "named": dict(named),
        "ip2p": version,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
