"""Where samples come from: the shapes world, a dataset in our columns, Emu Edit's test set, or MagicBrush."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import datasets
from PIL import Image

from ..finetune.examples import kept_back, triplet_names
from ..pairs.import_files import Folder, load_list
from ..pairs.pictures import SkipError
from ..shapes.captions import caption
from ..shapes.edits import KINDS, PLACING, Edit, random_edit
from ..shapes.reading import reworded
from ..shapes.render import render
from .rows import DRAWN, TOLD, TURNS, open_rows
from .samples import Sample, from_file

Turns = Literal["single", "multi"]


@dataclass(frozen=True)
class Columns:
    """What a dataset calls things; "" for what it has not."""

    picture: str
    edit_prompt: str
    original_prompt: str = ""
    edited_prompt: str = ""
    wanted: str = ""
    kind: str = ""
    session: str = ""
    turn: str = ""


TEXTS = ("edit_prompt", "original_prompt", "edited_prompt", "kind")
KNOWN = (
    Columns("original_image", "edit_prompt", "original_prompt", "edited_prompt", "edited_image", "kind"),
    Columns("image", "instruction", "input_caption", "output_caption", kind="task"),  # facebook/emu_edit_test_set
    Columns("source_img", "instruction", wanted="target_img", session="img_id", turn="turn_index"),  # MagicBrush
)


def open_samples(
    data: str, split: str, count: int | None, seed: int, turns: Turns, held_out: int | None = None
) -> list[Sample]:
    """The samples of a source, or so many of them, drawn by the seed; of sessions whole ones.

    data:     "shapes", Parquet files, a folder of them, MagicBrush's folder, or a dataset's Hub id
    turns:    of sessions: "single" edits the right picture of the turn before, "multi" what was made of it
    held_out: only of triplets that a training that holds out so many has not seen

    Raises ValueError or OSError, in a sentence, where there is none such.
    """
    if data == "shapes":
        return shapes_samples(count or 512)
    path = Path(data).expanduser()
    triplets: list[str] | None = None
    if (path / TURNS).is_file():
        samples = magicbrush_folder(path)
    else:
        some = count if held_out is None else None  # which triplets are held out, only all of them tell
        rows = open_rows(data, path, split, some, seed, [known.session for known in KNOWN if known.session])
        samples = of_rows(rows, data)
        if KNOWN[0].edit_prompt in rows.column_names:
            triplets = triplet_names(rows, [sample.edit_prompt for sample in samples])
    if held_out is not None:
        samples = not_trained_on(samples, triplets, data, held_out)
    if turns == "single":
        samples = [replace(sample, after=None, counted=True) for sample in samples]
    return drawn(samples, count, seed)


def shapes_samples(count: int) -> list[Sample]:
    """Edits of the shapes world with combinations that no training picture shows, as many of each kind."""
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    edits = [random_edit(random.Random(f"test/{kind}/{n // len(KINDS)}"), kind, True) for n, kind in enumerate(kinds)]
    return [shapes_sample(number, edit) for number, edit in enumerate(edits)]


def shapes_sample(number: int, edit: Edit) -> Sample:
    """A sample that the oracle judges.

    Its captions place only what the edit puts somewhere: as those of photographs do, they tell what is in a picture and
    leave open most of where. From one that tells all, the picture could be drawn anew.
    """
    rng = random.Random(f"captions/{number}")
    before = caption(edit.source, rng, edit.cells if edit.kind in PLACING else ())
    return Sample(
        id=f"shapes {number}",
        edit_prompt=edit.edit_prompt,
        original_prompt=before,
        edited_prompt=reworded(before, edit.source, edit.target, rng),
        picture=lambda: Image.fromarray(render(edit.source)),
        kind=edit.kind,
        edit=edit,
    )


def of_rows(rows: datasets.Dataset, data: str) -> list[Sample]:
    """The samples of a dataset. Raises ValueError where its columns are none that are known."""
    named = [known for known in KNOWN if {known.picture, known.edit_prompt} <= set(rows.column_names)]
    if not named:
        told = " or ".join(f"{known.picture} and {known.edit_prompt}" for known in KNOWN)
        raise ValueError(f"{data} has the columns {', '.join(rows.column_names)}; samples need {told}.")
    columns = named[0]
    for name in (columns.picture, columns.wanted):
        if name in rows.column_names and not holds_pictures(rows.features[name]):
            raise ValueError(f"{data} holds no pictures in its column {name}: give data that has the files themselves.")

    def texts(name: str) -> list[str]:
        return [str(value or "") for value in rows[name]] if name in rows.column_names else [""] * len(rows)

    sessions, turns = texts(columns.session), texts(columns.turn)
    in_sessions = {columns.session, columns.turn} <= set(rows.column_names)
    names = [f"{session} turn {turn}" for session, turn in zip(sessions, turns, strict=True)]
    if not in_sessions:
        names = texts(DRAWN) if DRAWN in rows.column_names else [f"row {row}" for row in range(len(rows))]
    instructions, befores, afters, kinds = (texts(getattr(columns, name)) for name in TEXTS)
    samples = [
        Sample(
            id=name,
            edit_prompt=instructions[row],
            original_prompt=befores[row],
            edited_prompt=afters[row],
            picture=picture_of(rows, row, columns.picture),
            kind=kinds[row],
        )
        for row, name in enumerate(names)
    ]
    if columns.wanted in rows.column_names:
        samples = [replace(each, wanted=picture_of(rows, n, columns.wanted)) for n, each in enumerate(samples)]
    if not in_sessions:
        return samples
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{data} has {twice[0]} twice: {columns.session} and {columns.turn} must tell its rows apart.")
    order = sorted(range(len(rows)), key=lambda row: (sessions[row], turn_number(turns[row]), row))
    last: dict[str, str] = {}
    ordered = []
    for row in order:
        ordered.append(replace(samples[row], after=last.get(sessions[row])))
        last[sessions[row]] = names[row]
    return last_turns_counted(ordered)


def not_trained_on(samples: list[Sample], triplets: list[str] | None, data: str, held_out: int) -> list[Sample]:
    """Those of triplets that a training holds out; `triplets` has each sample's. Raises ValueError where none has."""
    if triplets is None:
        raise ValueError(
            f"{data} does not tell triplets apart as a training does: leave --held-out out, and give data that the "
            "model has not seen."
        )
    named = list(zip(triplets, samples, strict=True))
    chosen = kept_back({name for name, sample in named if sample.edit_prompt.strip()}, held_out)
    if not chosen:
        raise ValueError(f"{data} has so few triplets that a training holds out none of them: give other data.")
    return [sample for name, sample in named if name in chosen]


def holds_pictures(feature: Any) -> bool:
    """Whether a column is of picture files."""
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature)


def turn_number(text: str) -> int:
    """A turn as a number, by which turns are ordered."""
    return int(text) if text.isdecimal() else 0


def picture_of(rows: datasets.Dataset, row: int, column: str) -> Callable[[], Image.Image]:
    """A picture of a dataset, read when it is wanted. One that is only a path is not: it could name any file here."""

    def read() -> Image.Image:
        content = (rows[row][column] or {}).get("bytes")
        if not content:
            raise SkipError("missing file", f"row {row} has no {column} in it")
        return from_file(content, f"row {row}, {column},")()

    return read


def magicbrush_folder(path: Path) -> list[Sample]:
    """The turns of MagicBrush's own folder, with its captions of whole pictures, and of what an edit makes."""
    folder = Folder(path)
    wholes, parts = (load_list(path / name, dict) if (path / name).is_file() else {} for name in TOLD)
    samples = []
    made_by: dict[str, str] = {}
    for number, turn in enumerate(load_list(path / TURNS, list)):
        names = [turn.get(key) if isinstance(turn, dict) else None for key in ("input", "output", "instruction")]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path / 'edit_turns.json'}: turn {number} names no pictures or has no instruction.")
        before, after, instruction = map(str, names)
        image = before.partition("-")[0]
        whole, part = wholes.get(image) or {}, parts.get(image) or {}
        if not (isinstance(whole, dict) and isinstance(part, dict)):
            raise ValueError(f"{path}: {' or '.join(TOLD)} has no captions by picture for {image}.")
        samples.append(
            Sample(
                id=f"{image} {after}",
                edit_prompt=instruction,
                original_prompt=str(whole.get(before) or ""),
                edited_prompt=str(whole.get(after) or ""),
                local_caption=str(part.get(after) or ""),
                picture=file_of(folder, f"images/{image}/{before}"),
                wanted=file_of(folder, f"images/{image}/{after}"),
                after=made_by.get(before),
            )
        )
        made_by[after] = samples[-1].id
    return last_turns_counted(samples)


def file_of(folder: Folder, name: str) -> Callable[[], Image.Image]:
    """A picture of a folder, read when it is wanted."""
    return lambda: from_file(folder.read(name), name)()


def last_turns_counted(samples: list[Sample]) -> list[Sample]:
    """Samples of which only those count after which no other comes."""
    edited_on = {sample.after for sample in samples}
    return [replace(sample, counted=sample.id not in edited_on) for sample in samples]


def drawn(samples: Sequence[Sample], count: int | None, seed: int) -> list[Sample]:
    """So many of the samples that count, with the turns that they need, in their order."""
    counted = [sample.id for sample in samples if sample.counted]
    if count is None or count >= len(counted):
        return list(samples)
    wanted = set(random.Random(seed).sample(counted, count))
    by_id = {sample.id: sample for sample in samples}
    for name in list(wanted):
        before = by_id[name].after
        while before is not None:
            wanted.add(before)
            before = by_id[before].after
    return [sample for sample in samples if sample.id in wanted]
