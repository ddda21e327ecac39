"""The settings of `ip2p recipe`, and what a recipe's file says. Nothing heavy is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..hub.settings import check_repo

RECIPES = Path(__file__).parents[1] / "training" / "recipes"


@dataclass(kw_only=True)
class RecipeSettings:
    """Settings of `ip2p recipe`."""

    recipe: str
    """A recipe in this package (shapes, sd15, sdxl), or a YAML file of one."""
    output: str | None = None
    """Folder of all stages; the same command goes on with what is there. Default: recipe-NAME here, or
    recipe-NAME-smoke."""
    smoke: bool = False
    """Make everything as small as the recipe's smoke section says: minutes, to see that all of it works."""
    dry_run: bool = False
    """Only tell what each stage would take: evaluations of the U-Net and hours."""
    rate: float | None = None
    """For --dry-run: evaluations of the U-Net a second by one device, at 512 pixels. Default: an A100's, by the paper's
    9 seconds for an edit with SD 1.5, half of it for SDXL; in the shapes world this machine's, measured."""

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"--rate is above 0, not {self.rate}.")


@dataclass(frozen=True)
class Packaging:
    """What the stage `package` makes: the folders that `ip2p hub publish` would upload."""

    to: str
    """The repository that the editor is meant for, as user/name; that of its distilled form ends in -distilled."""
    dataset: str | None = None
    """The repository of its data, which the card names."""
    base_model: str | None = None
    """The repository of the model that it began with. Default: as the training's settings say."""
    license: str | None = None
    """As the Hub names it. Default: that of the base model."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, str) and (value is not None or name == "to"):
                raise ValueError(f"{name} in the section package is a text, not {value!r}.")
        check_repo("to in the section package", self.to)
        if self.license is not None:
            from ..hub.licenses import check_license  # loads the Hub's library, which --help can do without

            check_license(self.license)


@dataclass(frozen=True)
class Recipe:
    """What a file says.

    sections:  the settings of each stage, by its command's name; guidance is distilled by those of "distil guidance"
    processes: that train, distil and evaluate together
    packaging: of the last stage, None where there is none
    """

    name: str
    sections: Mapping[str, Mapping[str, Any]]
    processes: int
    packaging: Packaging | None


def load_recipe(given: str, smoke: bool) -> Recipe:
    """Read a recipe by its name or file. Raises ValueError or OSError, in a sentence, where it is none."""
    path = Path(given)
    if not path.is_file() and (RECIPES / f"{given}.yaml").is_file():
        path = RECIPES / f"{given}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in RECIPES.glob("*.yaml")))
        raise FileNotFoundError(f"There is no recipe {given}: give a YAML file, or one of {known}.")
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} is no recipe: it has a section of settings for each command.")
    packaging, smaller = told.pop("package", None), told.pop("smoke", None)
    if smoke and smaller is None:
        raise ValueError(f"{path} has no smoke section, which says how small --smoke is.")
    processes, sections = parts_of(told, str(path))
    fewer, smaller_sections = parts_of({} if smaller is None else smaller, f"smoke in {path}", processes)
    for name in smaller_sections:
        if name not in sections:
            raise ValueError(f"smoke in {path} has a section {name!r}, which the recipe lacks: leave it out.")
    if smoke:
        processes = fewer
        sections = {name: {**section, **smaller_sections.get(name, {})} for name, section in sections.items()}
    try:
        packed = None if packaging is None else Packaging(**packaging)
    except TypeError as error:
        raise ValueError(f"{path}: package takes to, dataset, base_model and license ({error}).") from error
    return Recipe(path.stem, sections, processes, packed)


def parts_of(told: Any, where: str, processes: int = 1) -> tuple[int, dict[str, dict[str, Any]]]:
    """The processes, unless it says so many as given, and the sections of commands of a recipe or its smoke section.

    where: it stands, for what is told of a mistake

    Raises ValueError where it is anything else.
    """
    if not isinstance(told, dict):
        raise ValueError(f"{where} is a section of settings for each command, not {told!r}.")
    sections = {name: section for name, section in told.items() if name != "processes"}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise ValueError(f"{where}: {name} is a section of settings, NAME: VALUE on a line each, not {section!r}.")
    processes = told.get("processes", processes)
    if type(processes) is not int or processes < 1:  # true is an int, too
        raise ValueError(f"{where}: processes is a whole number of at least 1, not {processes!r}.")
    return processes, sections
