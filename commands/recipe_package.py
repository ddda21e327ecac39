"""The last stage of a recipe: the editor, and its distilled form, as folders that can be published as they are."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hub.settings import PublishSettings
from .recipe_settings import Packaging

EDITOR, DISTILLED = "editor", "distilled"
BEGINNING = ("train", "guidance")
"""Stages that may begin with a model of the user's, the first of them that a recipe has."""


def check_license_of(packaging: Packaging, parsed: Mapping[str, Any]) -> None:
    """Raise ValueError where the license is not known, or not one that the base model allows, before hours are spent.

    parsed: the settings of each stage, by its name
    """
    from ..hub.licenses import settled

    models = [parsed[name].model for name in (*BEGINNING, "distil") if name in parsed]
    try:
        settled(packaging.license, packaging.base_model or models[0])
    except ValueError as error:
        raise ValueError(str(error).replace("--license", "license in the section package")) from None


def package(packaging: Packaging, places: Mapping[str, Path], place: Path) -> None:
    """Put together what `ip2p hub publish` would upload of each result, in a folder of its own."""
    from ..hub.staging import stage

    base_model = packaging.base_model or begun_with(places)
    for name, source, repo in (
        (EDITOR, places.get("train"), packaging.to),
        (DISTILLED, places.get("distil"), f"{packaging.to}-distilled"),
    ):
        if source is None:
            continue
        settings = PublishSettings(
            folder=source,
            to=repo,
            license=packaging.license,
            base_model=base_model,
            dataset=packaging.dataset,
            evaluation=places.get("evaluate") if name == EDITOR else None,
        )
        aside = place.with_name(f"{place.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)  # of one that was killed
        aside.mkdir(parents=True)
        whole = aside / name
        for told, path in stage(settings, aside).items():
            (whole / told).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, whole / told)
        shutil.rmtree(place / name, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        whole.replace(place / name)
        shutil.rmtree(aside)


def begun_with(places: Mapping[str, Path]) -> str | None:
    """The model that the training began with, and so its distilled form; None where the last stage says it."""
    first = next((places[name] for name in BEGINNING if name in places), None)
    return None if first is None else str(json.loads((first / "settings.json").read_text())["model"])


def package_figures(place: Path) -> dict[str, str]:
    """The size of each folder."""
    sizes = {
        path.name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        for path in sorted(place.iterdir())
    }
    return {name: f"{size / 1e6:,.1f} MB" for name, size in sizes.items()}
