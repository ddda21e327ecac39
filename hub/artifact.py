"""What a folder holds that can be published, and exactly which of its files are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..ip2p_pipeline.loading import check_folder

Kind = Literal["pipeline", "lora", "dataset"]
LORA = "pytorch_lora_weights.safetensors"
# Of a component's folder; weights are safetensors, and nothing is code.
COMPONENT_SUFFIXES = {".json", ".safetensors", ".txt", ".model"}


@dataclass(frozen=True)
class Artifact:
    """What is published.

    kind: what it is
    root: its own folder
    run:  the folder of the training that it came from, or None
    """

    kind: Kind
    root: Path
    run: Path | None

    @property
    def run_settings(self) -> dict[str, Any]:
        """The settings of that training; empty where there is none."""
        if self.run is None:
            return {}
        return json.loads((self.run / "settings.json").read_text())

    def files(self) -> dict[str, Path]:
        """Its own files that are published, by their paths in the repository; card and code come from elsewhere.

        Raises ValueError for a file that is a link out of the folder.
        """
        named = {path.relative_to(self.root).as_posix(): path for path in self._own()}
        for name, path in named.items():
            if not path.resolve().is_relative_to(self.root.resolve()):
                raise ValueError(
                    f"{name} in {self.root} is a link to another place: only the folder's own files go out."
                )
        return dict(sorted(named.items()))

    def _own(self) -> Iterator[Path]:
        if self.kind == "lora":
            yield self.root / LORA
        elif self.kind == "dataset":
            yield from self.root.glob("data/*.parquet")
            yield from self.root.glob("candidates/*.parquet")
        else:
            yield self.root / "model_index.json"
            for name in components(self.root):
                yield from (path for path in (self.root / name).iterdir() if path.suffix in COMPONENT_SUFFIXES)
        if (self.root / "LICENSE").is_file():
            yield self.root / "LICENSE"


def components(root: Path) -> list[str]:
    """The folders that a pipeline's index names."""
    index = json.loads((root / "model_index.json").read_text())
    return [name for name, entry in index.items() if isinstance(entry, list) and entry[0] and not name.startswith("_")]


def find_artifact(folder: Path, what: str = "pipeline") -> Artifact:
    """What a folder holds. Raises FileNotFoundError or ValueError where that is nothing to publish, or not whole."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    run = folder if (folder / "settings.json").is_file() and (folder / "pipeline").is_dir() else None
    root = folder
    if run is not None:
        root = folder / what
        if not root.is_dir():
            raise ValueError(f"{folder} has no {what}: its training was of the whole model.")
    if (root / "model_index.json").is_file():
        check_folder(root)
        return Artifact("pipeline", root, run)
    if (root / LORA).is_file():
        return Artifact("lora", root, run)
    if any(root.glob("data/*.parquet")):
        return Artifact("dataset", root, None)
    raise ValueError(
        f"{folder} is nothing that can be published: give a run of `ip2p train`, a diffusers folder with its "
        f"model_index.json, a folder with {LORA}, or a dataset with data/*.parquet."
    )
