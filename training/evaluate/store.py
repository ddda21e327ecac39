"""What an evaluation has found so far: a picture and a row of scores for each method, setting and sample.

edits/KEY/SAMPLE.png      the edited picture; KEY names method, dials and seed by their content
scores-0.jsonl            a line a picture: its key, its sample, its scores; of each process
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ..files import add_line, write_whole
from ..pairs.candidates import digest
from .methods import Method, Setting

SUFFIX = {"jpg": ".jpg", "png": ".png"}


@dataclass(frozen=True)
class Task:
    """A method at a position of its dials, with one of its seeds."""

    method: Method
    setting: Setting
    seed: int

    @cached_property
    def key(self) -> str:
        """Names it by content: the same method, dials and seed have the same key in every run.

        Weights are hashed for it, so it is computed once.
        """
        told = [self.method.identity(), type(self.method).__name__, dict(sorted(self.setting.items())), self.seed]
        return digest(json.dumps(told, sort_keys=True))


class Store:
    """The folder of an evaluation.

    process: of several, whose file of scores this one writes; all are read
    """

    def __init__(self, folder: Path, image_format: Literal["jpg", "png"], process: int = 0) -> None:
        self.folder, self.image_format = folder, image_format
        self.mine = folder / f"scores-{process}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[tuple[str, str], dict[str, float]] = {}
        for path in sorted(folder.glob("scores-*.jsonl")):
            for row in whole_lines(path, cut=path == self.mine):
                self.rows.setdefault((row["key"], row["sample"]), {}).update(row["scores"])

    def picture_path(self, key: str, sample: str) -> Path:
        """Where an edited picture is kept. Names of samples may hold anything: their hash is the file's name."""
        return self.folder / "edits" / key / (digest(sample) + SUFFIX[self.image_format])

    def save_picture(self, key: str, sample: str, picture: Image.Image) -> None:
        """Keep an edited picture."""
        file = BytesIO()
        if self.image_format == "jpg":
            picture.save(file, "JPEG", quality=95, subsampling=0)
        else:
            picture.save(file, "PNG")
        write_whole(self.picture_path(key, sample), file.getvalue())

    def has_picture(self, key: str, sample: str) -> bool:
        """Whether an edited picture is made."""
        return self.picture_path(key, sample).exists()

    def picture(self, key: str, sample: str) -> Image.Image | None:
        """An edited picture; None where it is not made yet."""
        return self.kept_picture(key, sample) if self.has_picture(key, sample) else None

    def kept_picture(self, key: str, sample: str) -> Image.Image:
        """An edited picture that is made."""
        with Image.open(self.picture_path(key, sample)) as image:
            return image.convert("RGB")

    def add(self, key: str, sample: str, scores: dict[str, float]) -> None:
        """Keep scores of a picture, besides those that it has."""
        self.rows.setdefault((key, sample), {}).update(scores)
        add_line(self.mine, json.dumps({"key": key, "sample": sample, "scores": scores}))

    def scores(self, key: str, sample: str) -> dict[str, float]:
        """What is known of a picture."""
        return self.rows.get((key, sample), {})


def whole_lines(path: Path, cut: bool) -> Iterator[dict[str, Any]]:
    """The rows of a file but for a last line that is unfinished, which is cut off if a killed run of ours left it."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if cut and end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
    for number, line in enumerate(content[:end].splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError:
            raise ValueError(f"{path} is damaged in line {number}: remove that line; it is scored again.") from None
