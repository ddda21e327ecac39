"""`ip2p demo`: edits by the model inside the package, offline, on a contact sheet."""

import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import __version__
from ..ip2p_pipeline.named_models import from_name
from ..ip2p_pipeline.sheet import Column, before_and_after
from ..training.shapes.edits import KINDS, random_edit
from ..training.shapes.oracle import shows
from ..training.shapes.render import render
from .editing import generators
from .models import quiet
from .outputs import Outputs
from .report import say
from .settings import DemoSettings


def demo(settings: DemoSettings) -> int:
    """Edit a held-out scene in each kind of way, show all on a sheet, and let the oracle count the right ones."""
    start = time.perf_counter()
    outputs = Outputs(settings.output, 1, settings.overwrite)
    outputs.check_name("ip2p-demo", Path())
    quiet()
    pipe = from_name("shapes", torch.float32).pipe
    rng = random.Random(settings.seed)
    edits = [random_edit(rng, kind, held_out=True) for kind in KINDS]
    before = [Image.fromarray(render(edit.source)) for edit in edits]
    seeds = range(settings.seed, settings.seed + len(edits))
    pipe.set_progress_bar_config(desc=f"{len(edits)} edits", leave=False, disable=None)
    after = pipe([edit.edit_prompt for edit in edits], before, generator=generators(seeds)).images
    right = sum(shows(np.asarray(image), edit.target) for image, edit in zip(after, edits, strict=True))

    columns = [Column(a, edit.edit_prompt, b) for a, edit, b in zip(before, edits, after, strict=True)]
    sheet = before_and_after(columns)
    made_by = {"version": __version__, "model": "shapes", "seed": settings.seed}
    path = outputs.save(sheet, made_by, "ip2p-demo", Path())
    say(f"{path.resolve()}  {right} of {len(edits)} edits right, {time.perf_counter() - start:.1f} s")
    return 0
