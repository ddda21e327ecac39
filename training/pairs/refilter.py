"""Judges the candidates of an earlier run again, by other thresholds: nothing is scored, and rendered are only those
winners whose pictures that run did not keep, from their seeds."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from .candidates import PairTriplet, Rendered, Scores, SeedGroup
from .clip_filter import verdicts
from .features import KEPT, PART, PICTURES, SCORES
from .maker_settings import JUDGING, MakerSettings
from .nsfw import NsfwCheck
from .parts import Pictures, Work, decode, encoded
from .run_folder import read_settings, stored_parts

Render = Callable[[Sequence[SeedGroup]], list[Rendered]]

CHECKED = {"nsfw": True, KEPT: False}
"""What a verdict tells of the NSFW check. Others tell nothing: here it is asked of winners only, so a candidate that
was beaten may never have been seen."""


def check_earlier(folder: Path, settings: MakerSettings) -> None:
    """Refuse the folder of an earlier run that drew or scored otherwise."""
    told = read_settings(folder)
    if told is None:
        raise ValueError(f"There is no run of `ip2p dataset pairs` in {folder}.")
    for name, value in settings.row_settings().items():
        if name not in JUDGING and told.get(name) != value:
            raise ValueError(
                f"{folder} can't be judged again: its {name} is {told.get(name)!r}, not {value!r}. Only thresholds, "
                "how many are kept and the NSFW check may differ."
            )


def earlier_work(
    folder: Path, triplets: Sequence[PairTriplet], pending: Sequence[int], settings: MakerSettings
) -> Iterator[Work]:
    """The pending work of a run whose candidates an earlier one drew, as far as that is done, then the rest."""
    same_check = (read_settings(folder) or {}).get("nsfw_check") == settings.nsfw_check
    waiting = set(pending)
    for place, part in stored_parts(folder):
        if place not in waiting:
            continue
        if part["triplet_id"][0].as_py() != triplets[place].id:
            raise ValueError(f"{folder} can't be judged again: its triplet {place} is another one.")
        waiting.remove(place)
        yield Work(place, triplets[place], part if same_check else forgotten(part))
    for place in sorted(waiting):
        yield Work(place, triplets[place])


def forgotten(part: pa.Table) -> pa.Table:
    """A part without its verdicts, for they tell of another NSFW check."""
    return part.set_column(part.schema.get_field_index("verdict"), "verdict", pa.nulls(len(part), pa.string()))


def judge_again(known: pa.Table, settings: MakerSettings, render: Render, check: NsfwCheck | None) -> pa.Table:
    """The part of a triplet whose candidates are known, by these settings.

    known:   its part in an earlier run
    render:  draws groups of the triplet
    check:   finds pictures that no pair may hold. It is asked of winners, and where one is turned away of the next
    """
    rows = known.to_pylist()
    if rows[0]["number"] < 0:  # it failed, as it would again
        return known
    scores = [Scores(*(math.nan if row[name] is None else row[name] for name in SCORES)) for row in rows]
    seeds = [row["seed"] for row in rows]
    files = {row["number"]: Pictures(*(row[name] for name in PICTURES)) for row in rows if row["original_image"]}
    unsafe = {row["number"]: CHECKED[row["verdict"]] for row in rows if row["verdict"] in CHECKED}
    while True:
        told = None if check is None else [unsafe.get(number, False) for number in range(len(rows))]
        judged = verdicts(scores, seeds, settings, told)
        winners = [number for number, verdict in enumerate(judged) if verdict == KEPT]
        missing = [number for number in winners if number not in files]
        files |= rendered_again(rows, missing, settings, render)
        unknown = [number for number in winners if number not in unsafe]
        if check is None or not unknown:
            break
        for number in unknown:
            unsafe[number] = any(check([decode(files[number].original_image), decode(files[number].edited_image)]))

    for number, row in enumerate(rows):
        row["verdict"] = judged[number]
        row |= dict.fromkeys(PICTURES) if judged[number] != KEPT else files[number]._asdict()
    return pa.Table.from_pylist(rows, schema=PART)


def rendered_again(
    rows: Sequence[dict], numbers: Sequence[int], settings: MakerSettings, render: Render
) -> dict[int, Pictures]:
    """The pictures of candidates, drawn from their seeds."""
    if not numbers:
        return {}
    together = [list(each) for _, each in groupby(numbers, lambda number: number // settings.per_seed)]
    groups = [
        SeedGroup(rows[each[0]]["seed"], rows[each[0]]["guidance_scale"], tuple(rows[number]["p"] for number in each))
        for each in together
    ]
    return {
        number: encoded(rendered, which, settings.image_format)
        for each, rendered in zip(together, render(groups), strict=True)
        for which, number in enumerate(each)
    }
