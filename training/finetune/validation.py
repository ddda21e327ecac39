"""What is looked at every so many steps, with draws of its own, so that no training depends on it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from torch import Tensor

from ..checkpoints import write_tensors
from ..files import add_line, room_for
from ..pairs.candidates import PairTriplet, Rendered
from ..pairs.pictures import as_rgb
from ..shapes.judging import accuracy
from .batches import Batches
from .editor import Start, editor_with, gathered, whole
from .examples import Example
from .loop import Training
from .settings import FinetuneSettings
from .state import is_shared_out
from .trainee import Trainee

if TYPE_CHECKING:
    from ..pairs.clip_filter import ClipScorer

BEST, ROWS = "best.safetensors", "validation.jsonl"
LEVELS = 10  # of the schedule at which the loss is measured
IMAGE_GUIDANCE_SCALES = (1.0, 1.5, 2.0)  # of the CLIP curve
BESIDE = 10_000_000_000  # numbers of places from here on are of no training


class Validation:
    """Validates a training after its steps, and keeps the weights that do best.

    validation.jsonl                 a row a validation
    validation/step-00001000.png     held-out pictures: before, as edited, and after
    best.safetensors                 what is trained, averaged, where the oracle was right most often, or without it
                                     the loss on held-out examples least
    """

    def __init__(
        self, batches: Batches, examples: Sequence[Example], pipe: Any, start: Start, settings: FinetuneSettings
    ) -> None:
        """
        examples: to edit for the sheet
        pipe:     the editor whose U-Net is trained
        start:    loads it as it was when training began
        """
        self.batches, self.examples, self.pipe, self.start, self.settings = batches, examples, pipe, start, settings
        self.pairs = batches.material.held_out()
        if settings.publish == "best" and not (self.pairs or settings.oracle_edits):
            raise ValueError("So little data leaves nothing to validate on: --publish best needs --oracle-edits then.")
        self.scorer: ClipScorer | None = None

    def __call__(self, training: Training) -> None:
        """Validate, in the main process, where it is time."""
        every, accelerator = self.settings.validate_every, training.accelerator
        if not every or (training.step % every and training.step != self.settings.steps):
            return
        shared = is_shared_out(training)
        with training.averaged(), torch.no_grad():
            weights = gathered(training) if shared or accelerator.is_main_process else {}
            if accelerator.is_main_process:
                trainee, pipe = training.trainee, self.pipe
                if shared:  # no process has the whole model
                    pipe, trainee = editor_with(weights, self.start, self.settings)
                    pipe.to(accelerator.device)
                found = self.validate(training, trainee, pipe)
                self.keep_best(training, weights, found)
        if accelerator.is_main_process:
            # Last of all, as it says that all of it is done.
            add_line(training.folder / ROWS, json.dumps({"step": training.step, **found}))
            accelerator.log(found, step=training.step)
        accelerator.wait_for_everyone()

    def catch_up(self, training: Training) -> None:
        """Validate the step that a stopped training goes on from, should it have been stopped before that was done."""
        rows = training.folder / ROWS
        known = rows.read_text().splitlines() if rows.exists() else []
        done = any(row.startswith(f'{{"step": {training.step},') for row in known)
        training.accelerator.wait_for_everyone()  # else one could read here what the main process writes below
        if training.step and not done:
            self(training)

    def validate(self, training: Training, trainee: Trainee, pipe: Any) -> dict[str, float]:
        """Measure, and give what was found."""
        trainee.eval()
        found = self.losses(training, trainee)
        if self.examples or self.settings.oracle_edits:
            editor = whole(pipe, trainee, self.start).to(training.accelerator.device)
            editor.set_progress_bar_config(disable=True)
            found |= self.edits(editor, training)
        trainee.train()
        return found

    def losses(self, training: Training, trainee: Trainee) -> dict[str, float]:
        """The loss on held-out examples, at each level of noise and on average."""
        found = {}
        size = self.settings.batch_size
        timesteps = self.batches.timesteps
        for level in range(LEVELS) if self.pairs else ():
            timestep = (2 * level + 1) * timesteps // (2 * LEVELS)
            losses = []
            for at in range(0, len(self.pairs), size):
                pairs = self.pairs[at : at + size]
                batch = self.batches.plain_batch([BESIDE + at + i for i in range(len(pairs))], pairs, timestep)
                with training.accelerator.autocast():
                    losses += training.loss(trainee, batch).tolist()
            found[f"loss_at_{timestep}"] = float(np.mean(losses))
        if found:
            found["validation_loss"] = float(np.mean(list(found.values())))
        return found

    def edits(self, pipe: Any, training: Training) -> dict[str, float]:
        """Edit held-out pictures, for the sheet, for CLIP and for the oracle."""
        settings = self.settings
        found: dict[str, float] = {}
        if self.examples:
            edited = self.edited(pipe)
            path = training.folder / "validation" / f"step-{training.step:08d}.png"
            with room_for(path):
                path.parent.mkdir(exist_ok=True)
                sheet(self.examples, edited).save(path)
        if self.examples and settings.clip_model:
            for scale in IMAGE_GUIDANCE_SCALES:
                scores = self.scores(self.edited(pipe, scale))
                found |= {f"{name}_at_{scale}": float(value) for name, value in scores.items()}
        if settings.oracle_edits:
            right = accuracy(pipe, settings.oracle_edits, num_inference_steps=settings.validation_steps)
            found |= {f"right_{kind}": share for kind, share in right.items()}
            found["right"] = float(np.mean(list(right.values())))
        return found

    def edited(self, pipe: Any, image_guidance_scale: float | None = None) -> list[Image.Image]:
        """The examples' pictures, edited, always from the same noise."""
        made = []
        for at, example in enumerate(self.examples):
            made += pipe(
                example.edit_prompt,
                as_rgb(example.original_image, example.name),
                num_inference_steps=self.settings.validation_steps,
                image_guidance_scale=image_guidance_scale,
                resolution=self.settings.resolution,
                generator=torch.Generator().manual_seed(at),
            ).images
        return made

    def scores(self, edited: list[Image.Image]) -> dict[str, float]:
        """CLIP's mean scores of edits whose examples have captions; none where no example has."""
        if self.scorer is None:
            from ..pairs.clip_filter import ClipScorer  # open_clip takes 40 MB and a while, and few need it

            name, _, weights = str(self.settings.clip_model).partition("/")
            self.scorer = ClipScorer(name, weights or None)
        rows = []
        for example, picture in zip(self.examples, edited, strict=True):
            if example.original_prompt and example.edited_prompt:
                triplet = PairTriplet(example.original_prompt, example.edit_prompt, example.edited_prompt)
                before = as_rgb(example.original_image, example.name)
                rendered = Rendered(np.array(before), [np.array(picture)], [None])
                rows += [vars(score) for score in self.scorer.score(triplet, [rendered])]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}

    def keep_best(self, training: Training, weights: dict[str, Tensor], found: dict[str, float]) -> None:
        """Write the trained weights, if they did better than any before."""
        by = "right" if "right" in found else "validation_loss"
        score = found.get("right", -found.get("validation_loss", float("inf")))
        path = training.folder / BEST
        if score > float("-inf") and (not path.exists() or score > best_score(path, by)):
            write_tensors(path, weights, {"step": str(training.step), "score": repr(score), "by": by})


def best_score(path: Path, by: str) -> float:
    """The score of the weights that are kept; worst where they were chosen by something else."""
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
    return float(told["score"]) if told.get("by", by) == by else float("-inf")


def sheet(examples: Sequence[Example], edited: list[Image.Image], side: int = 256) -> Image.Image:
    """A line an example: the picture before, as edited, and after, under the instruction."""
    bar = 18
    page = Image.new("RGB", (3 * side, len(edited) * (side + bar)), "white")
    pen = ImageDraw.Draw(page)
    for line, (example, made) in enumerate(zip(examples, edited, strict=True)):
        top = line * (side + bar)
        pen.text((4, top + 2), example.edit_prompt, "black", font_size=13)
        before, after = (as_rgb(file, example.name) for file in (example.original_image, example.edited_image))
        for column, picture in enumerate((before, made, after)):
            shown = picture.copy()
            shown.thumbnail((side, side))
            scale = side // max(shown.size)
            if scale > 1:
                shown = shown.resize((shown.width * scale, shown.height * scale), Image.Resampling.NEAREST)
            page.paste(shown, (column * side, top + bar))
    return page
