"""A tiny model to begin with and a few rendered pairs to train on."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ip2p import InstructPix2PixPipeline
from ip2p.ip2p_pipeline.widening import widen
from ip2p.training.finetune.encode import Encoder
from ip2p.training.finetune.examples import Examples
from ip2p.training.finetune.settings import FinetuneSettings
from ip2p.training.finetune.sources import open_rows
from ip2p.training.pairs.features import EXAMPLES_SCHEMA, picture_column
from ip2p.training.shapes.render import render
from pairs_data import edits, encoded, triplet
from pairs_models import base_pipeline, xl_pipeline

SIZE = 32


def settings(**given: Any) -> FinetuneSettings:
    """Of a training that takes seconds."""
    usual = {
        "resolution": SIZE, "resize_max": SIZE, "steps": 4, "batch_size": 2, "held_out": 2, "save_every": 2,
        "validate_every": 0, "tracker": "none", "cpu": True,
    }  # fmt: skip
    return FinetuneSettings(**{**usual, **given})


def write_pairs(path: Path, count: int = 20, each: int = 2, **columns: list[Any]) -> Path:
    """A Parquet file of rendered pairs, `each` of a triplet; other columns as given."""
    rows = [(edit, number) for edit in edits(count) for number in range(each)]
    told: dict[str, list[Any]] = {
        "original_prompt": [edit.original_prompt for edit, _ in rows],
        "edit_prompt": [edit.edit_prompt for edit, _ in rows],
        "edited_prompt": [edit.edited_prompt for edit, _ in rows],
        "triplet_id": [triplet(edit).id for edit, _ in rows],
        "original_image": [encoded(render(edit.source)) for edit, _ in rows],
        "edited_image": [encoded(render(edit.target)) for edit, _ in rows],
        "candidate": [number for _, number in rows],
        **columns,
    }
    table = {
        field.name: picture_column(pa.array(told[field.name], pa.binary()))
        if field.name.endswith("_image")
        else pa.array(told[field.name], field.type)
        for field in EXAMPLES_SCHEMA
        if field.name in told
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def examples(path: Path, held_out: int = 2, **given: Any) -> Examples:
    """A file's examples."""
    return Examples(open_rows(settings(data=str(path), **given), path.parent / "imported"), held_out)


def rows(**columns: list[Any]) -> datasets.Dataset:
    """Rows in memory."""
    return datasets.Dataset.from_dict(columns)


def encoder(xl: bool = False) -> Encoder:
    """The tiny model's, with a widened U-Net; nothing of it is shared."""
    base = deepcopy(xl_pipeline() if xl else base_pipeline())
    pipe = InstructPix2PixPipeline.from_pipe(base, unet=widen(base.unet))
    return Encoder(pipe, torch.device("cpu"), torch.float32)


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
