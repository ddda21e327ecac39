"""The last stage of a recipe: the editor, and its distilled form, as folders that can be published as they are."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ..hub.settings import PublishSettings
from .recipe_settings import Packaging

EDITOR, DISTILLED = "editor", "distilled"


def package(packaging: Packaging, places: Mapping[str, Path], place: Path) -> None:
    """Put together what `ip2p hub publish` would upload of each result, in a folder of its own."""
    from ..hub.staging import stage

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
            base_model=packaging.base_model,
            dataset=packaging.dataset,
            evaluation=places.get("evaluate") if name == EDITOR else None,
        )
        with TemporaryDirectory(dir=place.parent) as aside:
            whole = Path(aside) / name
            for told, path in stage(settings, Path(aside)).items():
                (whole / told).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, whole / told)
            shutil.rmtree(place / name, ignore_errors=True)
            place.mkdir(parents=True, exist_ok=True)
            whole.replace(place / name)


def package_figures(place: Path) -> dict[str, str]:
    """The size of each folder."""
    sizes = {
        path.name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        for path in sorted(place.iterdir())
    }
    return {name: f"{size / 1e6:,.1f} MB" for name, size in sizes.items()}
