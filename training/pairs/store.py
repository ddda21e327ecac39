"""The folder of a run: each finished triplet is a part, and parts are merged by blocks of triplets.

    settings.json                 all that the rows depend on
    parts/00000012.parquet        a finished triplet, by its place
    data/train-00000.parquet      the examples of a block of triplets
    candidates/00000.parquet      all candidates of the same block; where it is, the block is done
    report.json, README.md        counts, and the dataset's card

A block's files are written from its parts, examples first, and then the parts are removed: whenever a run is killed,
the next one ends with the same files.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..files import write_whole
from .candidates import PairTriplet, digest
from .card import made_card
from .features import CANDIDATES, EXAMPLES_SCHEMA, KEPT, PART, PICTURES, SCORES, picture_column
from .run_folder import (
    candidates_path,
    claimed,
    data_path,
    merged_blocks,
    merged_parts,
    number,
    part_path,
    read_settings,
    refuse_other,
    refuse_strange,
)
from .shards import ShardWriter, new_shard, read_shard, settle, shards
from .tally import count_run


class Store:
    """Takes parts in any order, and keeps the run's folder.

    folder:         the run's; another run's is refused with a sentence
    triplets:       all of the run. A run on the first of them goes on with the rest
    settings:       all that rows depend on but the triplets, as JSON. `method` becomes the rows' `source`
    shard_triplets: triplets of a block

    `with Store(…) as store` keeps a second run out of the folder.
    """

    def __init__(
        self, folder: Path, triplets: Sequence[PairTriplet], settings: dict[str, Any], shard_triplets: int = 256
    ) -> None:
        if shard_triplets < 1:
            raise ValueError(f"--shard-triplets is at least 1, not {shard_triplets}.")
        self.folder = folder
        self.triplets = triplets
        self.shard_triplets = shard_triplets
        self.settings = json.loads(json.dumps(settings)) | {
            "shard_triplets": shard_triplets,
            "num_triplets": len(triplets),
            "triplets": digest_of(triplets, len(triplets)),
        }
        self.opened = False
        self.done: set[int] = set()  # blocks
        self.parts: set[int] = set()  # places

    def __enter__(self) -> "Store":
        self.claim = ExitStack()
        self.claim.enter_context(claimed(self.folder))
        try:
            self._open()
        except BaseException:
            self.claim.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.claim.close()

    def _open(self) -> None:
        """Find out what is there; a folder of another run is refused."""
        if self.opened:
            return
        path = self.folder / "settings.json"
        told = read_settings(self.folder)
        if told is None:
            refuse_strange(self.folder)
        for block in merged_blocks(self.folder):
            if not data_path(self.folder, block).exists():
                candidates_path(self.folder, block).unlink()  # its pictures were taken away: it is drawn anew
        if told is not None and told != self.settings:
            self._check_same(told)
            self._unmerge_last(told["num_triplets"])
        if told != self.settings:
            write_whole(path, json.dumps(self.settings, indent=2).encode())
        self.done = merged_blocks(self.folder)
        for each in shards(self.folder / "parts"):
            if number(each) // self.shard_triplets in self.done:
                each.unlink()  # it was merged by a run that was stopped before it came to this
            else:
                self.parts.add(number(each))
        self.opened = True

    def _check_same(self, told: dict[str, Any]) -> None:
        """Refuse another run's folder. One of fewer triplets is the same run if these begin with them."""
        count = told.get("num_triplets", 0)
        if count < len(self.triplets) and told.get("triplets") == digest_of(self.triplets, count):
            told = told | {name: self.settings[name] for name in ("num_triplets", "triplets")}
        refuse_other(self.folder, told, self.settings)

    def _unmerge_last(self, count: int) -> None:
        """Turn the last block of a run of `count` triplets, if it is short, into parts again: it will be longer."""
        block, rest = divmod(count, self.shard_triplets)
        candidates = candidates_path(self.folder, block)
        if not rest or not candidates.exists():
            return
        for place, part in merged_parts(self.folder, block):
            self._write_part(place, part)
        candidates.unlink()
        settle(candidates.parent)

    def places(self, block: int) -> range:
        """The places of a block's triplets."""
        first = block * self.shard_triplets
        return range(first, min(first + self.shard_triplets, len(self.triplets)))

    def pending(self) -> list[int]:
        """Places of the triplets that are not done."""
        self._open()
        return [
            place
            for place in range(len(self.triplets))
            if place // self.shard_triplets not in self.done and place not in self.parts
        ]

    def add(self, place: int, part: pa.Table) -> None:
        """Keep a triplet's part, a table of `features.PART`, and merge its block when that is complete.

        A part that is there already is left as it is.
        """
        self._open()
        block = place // self.shard_triplets
        if block in self.done or place in self.parts:
            return
        self._write_part(place, part)
        self.parts.add(place)
        if self._is_complete(block):
            self._merge(block)

    def finish(self) -> dict[str, Any]:
        """Merge what is complete, write the card and report.json, and give the report."""
        self._open()
        for block in sorted({place // self.shard_triplets for place in self.parts}):
            if self._is_complete(block):
                self._merge(block)
        report = count_run(self.folder).report()
        write_whole(self.folder / "README.md", made_card(self.folder, self.settings, report).encode())
        write_whole(self.folder / "report.json", json.dumps(report, indent=2).encode())
        return report

    def _write_part(self, place: int, part: pa.Table) -> None:
        with new_shard(part_path(self.folder, place), PART) as shard:
            shard.add(part.select(PART.names).cast(PART))

    def _is_complete(self, block: int) -> bool:
        return all(place in self.parts for place in self.places(block))

    def _merge(self, block: int) -> None:
        """Write a block's examples and candidates, and then remove its parts."""
        source = str(self.settings.get("method", ""))
        with new_shard(data_path(self.folder, block), EXAMPLES_SCHEMA) as data:
            for place in self.places(block):
                add_examples(data, self._read_part(place), self.triplets[place], source)
        with new_shard(candidates_path(self.folder, block), CANDIDATES) as candidates:
            for place in self.places(block):
                candidates.add(self._read_part(place, CANDIDATES.names))
        self.done.add(block)
        for place in self.places(block):
            part_path(self.folder, place).unlink(missing_ok=True)
            self.parts.discard(place)

    def _read_part(self, place: int, columns: list[str] | None = None) -> pa.Table:
        path = part_path(self.folder, place)
        schema = PART if columns is None else CANDIDATES
        tables = [table.cast(schema) for table in read_shard(path, columns)]
        return pa.concat_tables(tables) if tables else schema.empty_table()


def digest_of(triplets: Sequence[PairTriplet], count: int) -> str:
    """A hash of the first triplets, with their kinds, what leads back from them, and in their order."""
    running = ""
    for place in range(count):
        triplet = triplets[place]
        running = digest(f"{running}/{triplet.id}/{triplet.kind}/{triplet.inverse_prompt}")
    return running


def add_examples(data: ShardWriter, part: pa.Table, triplet: PairTriplet, source: str) -> None:
    """Write the candidates of a part that are kept, best first, as examples."""
    kept = part.filter(pc.equal(part["verdict"], KEPT))
    kept = kept.sort_by([("directional_similarity", "descending"), ("number", "ascending")])
    rows = kept.num_rows

    def repeated(text: str) -> pa.Array:
        return pa.array([text] * rows, pa.string())

    columns = {
        "original_prompt": repeated(triplet.original_prompt),
        "edit_prompt": repeated(triplet.edit_prompt),
        "edited_prompt": repeated(triplet.edited_prompt),
        "inverse_prompt": repeated(triplet.inverse_prompt),
        "kind": repeated(triplet.kind),
        "source": repeated(source),
        "candidate": kept["number"],
        **{name: kept[name] for name in (*SCORES, "seed", "p", "guidance_scale", "triplet_id")},
        **{name: picture_column(kept[name]) for name in PICTURES},
    }
    data.add(pa.table({name: columns[name] for name in EXAMPLES_SCHEMA.names}, schema=EXAMPLES_SCHEMA))
