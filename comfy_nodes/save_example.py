"""The node that saves pictures before and after as examples to train on."""

import csv
import hashlib
import io as streams
import re
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from . import runtime
from .pictures import pictures_of

COLUMNS = ("before", "after", "instruction", "original_prompt", "edited_prompt")
TABLE, PICTURES = "examples.csv", "pictures"


class Ip2pSaveExample(io.ComfyNode):
    """Adds examples to a folder that `ip2p train --data` takes."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p dataset", "save pair", "training data", "make dataset", "before after"],
            node_id="Ip2pSaveExample",
            display_name="Save InstructPix2Pix Example",
            description="Saves pictures before and after with the instruction, as examples of a dataset in ComfyUI's "
            "output folder: `ip2p train --data output/ip2p_datasets/NAME` trains on it. The same example is saved "
            "once.",
            inputs=[
                io.Image.Input("before", tooltip="The picture as it was; one, or as many as there are after."),
                io.Image.Input("after", tooltip="The picture as it should become."),
                io.String.Input(
                    "instruction", default="", multiline=True, tooltip="What turns the one into the other."
                ),
                io.String.Input("dataset", default="my_edits", tooltip="The dataset's name: a folder is named so."),
                io.String.Input(
                    "original_caption",
                    default="",
                    optional=True,
                    tooltip="What the picture before shows. Scores by CLIP use it.",
                ),
                io.String.Input(
                    "edited_caption",
                    default="",
                    optional=True,
                    tooltip="What the picture after shows. Scores by CLIP use it.",
                ),
            ],
            outputs=[io.Int.Output(display_name="examples", tooltip="How many the dataset has now.")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        before: Tensor,
        after: Tensor,
        instruction: str,
        dataset: str,
        original_caption: str = "",
        edited_caption: str = "",
    ) -> Any:
        """Save what is new."""
        folder = dataset_folder(runtime.output_folder(), dataset)
        one, two = pictures_of(before), pictures_of(after)
        rows = save_examples(folder, one, two, instruction, original_caption, edited_caption)
        subfolder = f"ip2p_datasets/{dataset}/{PICTURES}"
        shown = [
            {"filename": Path(name).name, "subfolder": subfolder, "type": "output"} for row in rows for name in row[:2]
        ]
        return io.NodeOutput(len(rows_of(folder / TABLE)), ui={"images": shown})


def dataset_folder(output: Path, name: str) -> Path:
    """Where a dataset of that name lies. Raises ValueError for a name that is no folder's, or leaves the output."""
    if not re.fullmatch(r"\w[\w .-]{0,99}", name) or name.endswith((".", " ")):
        raise ValueError(f"“{name}” can't name a dataset: use letters, digits, blanks, - and _.")
    return output / "ip2p_datasets" / name


def save_examples(
    folder: Path,
    before: list[Tensor],
    after: list[Tensor],
    instruction: str,
    original_caption: str = "",
    edited_caption: str = "",
) -> list[list[str]]:
    """Add examples to a dataset, those that it has not yet, and give their rows.

    Pictures [C,H,W] become PNG files named by their content; the row comes last, so that each has its pictures.
    Raises ValueError for numbers or sizes that don't go together, and without an instruction.
    """
    if not instruction.strip():
        raise ValueError("The instruction is empty: say what turns the first picture into the second.")
    if len(before) == 1:
        before = before * len(after)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} pictures before don't go with {len(after)} after: give one, or as many.")
    if before[0].shape[1:] != after[0].shape[1:]:
        (h, w), (height, width) = before[0].shape[1:], after[0].shape[1:]
        raise ValueError(f"The pictures before are {w}×{h} and those after {width}×{height}: make them the same size.")
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    table = folder / TABLE
    known = rows_of(table)
    texts = [" ".join(text.split()) for text in (instruction, original_caption, edited_caption)]
    rows = [[save_picture(folder, each) for each in pair] + texts for pair in zip(before, after, strict=True)]
    for row in rows:
        if row not in known:
            known.append(row)
            add_row(table, row)
    return rows


def save_picture(folder: Path, picture: Tensor) -> str:
    """Write a picture where it is not there yet, and give its path below the folder."""
    from ..ip2p_pipeline.image_io import to_pil

    stream = streams.BytesIO()
    to_pil(picture.float().cpu()).convert("RGB").save(stream, "PNG")
    name = f"{PICTURES}/{hashlib.sha256(stream.getvalue()).hexdigest()[:24]}.png"
    path = folder / name
    if not path.exists():
        aside = path.with_suffix(".partial")
        aside.write_bytes(stream.getvalue())
        aside.replace(path)
    return name


def rows_of(table: Path) -> list[list[str]]:
    """The rows below the header. Raises ValueError where the file is another one."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if tuple(header) != COLUMNS:
        raise ValueError(f"{table} was not made by this node: choose another name for the dataset.")
    return rows


def add_row(table: Path, row: list[str]) -> None:
    """Append a row, below a header where there is none yet, in one piece."""
    text = streams.StringIO()
    csv.writer(text).writerows([row] if table.exists() else [COLUMNS, row])
    with table.open("a", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())
