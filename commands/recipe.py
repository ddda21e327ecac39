"""`ip2p recipe`: the whole method by one command, stage by stage, each a process of its own.

A stage's folder is named by a hash of all that goes into it: the settings of its section, the files and folders that
these name, the results of the stages before, the version. So a stage whose inputs are as before is not run again, one
that was stopped goes on, and one whose inputs changed begins anew beside its old self.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from .. import __version__
from ..training.files import add_line, write_whole
from ..training.pairs.run_folder import claimed, read_settings
from .arguments import parse_settings
from .recipe_checks import check_machine
from .recipe_estimate import estimates
from .recipe_overview import Overview, Row
from .recipe_package import check_license_of, package, package_figures
from .recipe_report import Result, write_report
from .recipe_settings import Recipe, RecipeSettings, load_recipe
from .recipe_stages import Stage, contents, deciding, inputs, outcome, stages_of
from .report import complain, say

PACKAGE, PACKED = "package", ("train", "guidance", "distil", "evaluate")
PACKED_FILES = ("**/*.safetensors", "**/*.json", "**/*.py")  # not the cards, which a user may go on writing
NOTE_EVERY = 10.0  # seconds


class StageError(ValueError):
    """A stage could not be done; what it told."""


def recipe(settings: RecipeSettings) -> int:
    """Run what a recipe's folder lacks, or tell what it would take. Gives the exit status."""
    told = load_recipe(settings.recipe, settings.smoke)
    stages = stages_of(told)
    if settings.dry_run:
        with TemporaryDirectory() as aside:
            parsed = {stage.name: checked(told, stage, Path(aside)) for stage in stages}
        for line in estimates(parsed, told.processes, settings.rate):
            say(line)
        return 0
    folder = Path(settings.output or f"recipe-{told.name}{'-smoke' * settings.smoke}")
    with claimed(folder):
        parsed = {stage.name: checked(told, stage, folder) for stage in stages}
        never_done = [stage for stage in stages if not any(folder.glob(f"{stage.name}-*.json"))]
        check_machine(told, never_done, parsed)
        if told.packaging:
            check_license_of(told.packaging, parsed)
        names = [stage.name for stage in stages] + ([PACKAGE] if told.packaging else [])
        overview = Overview(names)
        results: dict[str, Result] = {}
        try:
            with overview:
                for stage in stages:
                    results[stage.name] = run_stage(told, stage, folder, parsed[stage.name], results, overview)
                if told.packaging:
                    results[PACKAGE] = run_package(told, folder, results, overview)
        except KeyboardInterrupt:
            complain(f"stopped: what is done is in {folder}, and the same command goes on from there.")
            return 130
        report = write_report(folder, told, results)
    for name, result in results.items():
        say(f"{result.outcome[:16]}  {name:<12} {result.folder}")
    say(str(report))
    return 0


def config_path(stage: Stage, folder: Path) -> Path:
    """The file of a stage's settings."""
    return folder / "settings" / f"{stage.name}.yaml"


def checked(told: Recipe, stage: Stage, folder: Path) -> Any:
    """A stage's settings, written to a file of their own and read as its command will: what is wrong with one is told
    before the first stage runs."""
    from ..cli import COMMANDS, find

    config = config_path(stage, folder)
    write_whole(config, yaml.safe_dump(dict(told.sections[stage.section]), sort_keys=False).encode())
    command = COMMANDS[stage.command]
    there = {each.name for each in stages_of(told)}
    places = {name: Path(name) for name in stage.needs if name in there}
    flags = stage.flags(places, config, Path(stage.name))
    return parse_settings(stage.command, find(command.settings), command.description, flags)


def run_stage(
    told: Recipe, stage: Stage, folder: Path, settings: Any, before: dict[str, Result], overview: Overview
) -> Result:
    """A stage's result: as it is there, or by its command.

    settings: the stage's, as its command reads them
    """
    needed = {name: before[name] for name in stage.needs if name in before}
    processes = told.processes if stage.parallel else 1
    places = {each: of.folder for each, of in needed.items()}
    outcomes = {each: of.outcome for each, of in needed.items()}
    section = deciding(stage, told.sections[stage.section], places)
    name = inputs(section, processes, outcomes, contents(stage, settings, places), __version__)
    place = folder / f"{stage.name}-{name[:8]}"
    row = overview.rows[stage.name]

    def work() -> None:
        take_over(stage, place)
        tell_where(stage, places, place)
        follow(stage.argv(places, config_path(stage, folder), place, processes), row, place)

    return once(stage.name, place, overview, work, stage.result, stage.figures)


def take_over(stage: Stage, place: Path) -> None:
    """Move to a stage's folder what another one of it kept whatever the settings are, such as answers that were paid
    for."""
    folders = [path for path in place.parent.glob(f"{stage.name}-*") if path.is_dir() and path != place]
    for pattern in stage.kept:
        kept = [each for folder in folders for each in folder.glob(pattern)]
        if kept and not any(place.glob(pattern)):
            last = max(kept, key=lambda each: each.stat().st_mtime)
            place.mkdir(parents=True, exist_ok=True)
            for each in last.parent.glob(pattern):
                each.replace(place / each.name)


def tell_where(stage: Stage, places: Mapping[str, Path], place: Path) -> None:
    """Tell a stage that was stopped where the results are now that it goes on from: the recipe's folder may have been
    moved or be given by another path, while the stage's own folder is named by their content."""
    told = read_settings(place) or {}
    now = {name: path for name, path in stage.overridden(places).items() if isinstance(told.get(name), str)}
    if now:
        write_whole(place / "settings.json", json.dumps(told | now, indent=2).encode())


def run_package(told: Recipe, folder: Path, before: dict[str, Result], overview: Overview) -> Result:
    """What can be published, put together from the other stages' results."""
    assert told.packaging is not None
    packaging = told.packaging
    needed: dict[str, Result] = {name: before[name] for name in PACKED if name in before}
    outcomes = {each: of.outcome for each, of in needed.items()}
    # What is packed has the pipeline's code in it.
    code = {"pipeline": outcome(Path(__file__).parents[1] / "ip2p_pipeline", ("*.py",))}
    name = inputs(vars(packaging), 1, outcomes, code, __version__)
    place = folder / f"{PACKAGE}-{name[:8]}"
    places = {each: of.folder for each, of in needed.items()}
    return once(PACKAGE, place, overview, lambda: package(packaging, places, place), PACKED_FILES, package_figures)


def once(
    name: str,
    place: Path,
    overview: Overview,
    work: Callable[[], None],
    patterns: tuple[str, ...],
    figures: Callable[[Path], dict[str, str]],
) -> Result:
    """Do a stage's work unless it is done, and note that it is, beside its folder."""
    row = overview.rows[name]
    note = place.with_name(f"{place.name}.json")
    if note.is_file():
        noted = json.loads(note.read_text())
        if noted["outcome"] == outcome(place, patterns):
            row.end("as before", noted["figures"], noted["seconds"])
            overview.changed(row)
            return Result(place, noted["outcome"], noted["seconds"], noted["figures"])
    row.begin(earlier(place))
    overview.changed(row)
    try:
        work()
    except (KeyboardInterrupt, ValueError, OSError) as error:
        row.end("stopped" if isinstance(error, KeyboardInterrupt) else "failed")
        overview.changed(row)
        write_whole(spent_path(place), str(row.seconds).encode())
        raise
    row.end("done", figures(place))
    overview.changed(row)
    result = Result(place, outcome(place, patterns), row.seconds, row.figures)
    told = {"outcome": result.outcome, "seconds": result.seconds, "figures": result.figures}
    write_whole(note, json.dumps(told, indent=2).encode())
    spent_path(place).unlink(missing_ok=True)
    return result


def spent_path(place: Path) -> Path:
    """The file with the time that a stage took before it was stopped."""
    return place.with_name(f"{place.name}.seconds")


def earlier(place: Path) -> float:
    """The seconds that a stage took before it was stopped."""
    path = spent_path(place)
    return float(path.read_text()) if path.is_file() else 0.0


def follow(argv: list[str], row: Row, place: Path) -> None:
    """Run a stage's process to its end, its progress shown, and beside its folder its time noted, should it be killed,
    and in NAME.log what it says.

    Raises KeyboardInterrupt where the user stopped it, and StageError with the sentence that it told.
    """
    log = place.with_name(f"{place.name}.log")
    log.unlink(missing_ok=True)
    # torchrun kills after 30 seconds what a large model's checkpoint may take minutes to write.
    more = {"PYTHONUNBUFFERED": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600"}
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **more})
    assert process.stderr is not None
    stopped, noted = False, time.monotonic()
    while True:
        try:
            # Ctrl-C reaches the process, too, which ends its step and saves: wait for that.
            chunk = os.read(process.stderr.fileno(), 65536)
            if not chunk:
                break
            for line in row.progress.read(chunk.decode(errors="replace")):
                with suppress(OSError):  # a full disk is the stage's own to tell
                    add_line(log, line)
            if time.monotonic() - noted >= NOTE_EVERY:
                noted = time.monotonic()
                with suppress(OSError):
                    write_whole(spent_path(place), str(row.spent()).encode())
        except KeyboardInterrupt:
            if stopped:
                process.kill()
            elif process.poll() is None and not (sys.stdin and sys.stdin.isatty()):
                process.send_signal(signal.SIGINT)  # of one that was sent to this process alone
            stopped = True
    code = process.wait()
    if stopped or code == 130:
        raise KeyboardInterrupt
    if code:
        killed = f"it was killed by signal {-code}." if code < 0 else ""
        told = killed or row.progress.told() or f"exit status {code}."
        end = "" if told.endswith(".") else "."
        where = f"{end} All that it said is in {log}." if log.exists() and told != row.progress.sentence else ""
        raise StageError(f"The stage {row.name} could not be done: {told}{where}")
