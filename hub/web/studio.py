"""Edits for the page: one at a time, step by step, and stopped when nobody waits for them any more."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...ip2p_pipeline.errors import NONSENSE, first_line, is_out_of_memory
from ...ip2p_pipeline.image_io import to_pil
from ...ip2p_pipeline.latents import decode
from ...ip2p_pipeline.named_models import Model
from ...training.evaluate.best_of import Ranked, least_image_similarity, ranked, trials

SMALL = 128  # a side up to which a model's own decoder is quick enough for previews


@dataclass(frozen=True)
class Wish:
    """What a visitor wants of a picture; names as the pipeline's."""

    instruction: str
    guidance_scale: float
    image_guidance_scale: float
    num_inference_steps: int
    seed: int
    negative_prompt: str = ""
    is_masked: bool = False
    """Whether only a part of the picture may change."""
    mask_feather: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How far a request is: steps done, of how many, and the picture as it comes, where that is quick to make."""

    done: int
    total: int
    preview: Image.Image | None


class StoppedError(Exception):
    """Nobody waits for the edit any more, or it took too long."""


class Studio:
    """A model, and what it is asked to do.

    judge: what ranks edits by CLIP, made when it is first asked for
    """

    def __init__(self, model: Model, make_judge: Callable[[], Any], clip_model: str, max_seconds: float) -> None:
        self.model, self.pipe = model, model.pipe
        self.make_judge, self.clip_model, self.max_seconds = make_judge, clip_model, max_seconds
        self.judge: Any = None
        self.lock = threading.Lock()
        self.pipe.set_progress_bar_config(disable=True)

    @property
    def resolution(self) -> int | None:
        """The longest side to work at, which is what the model was trained at; None = the picture's own."""
        side = self.pipe.unet.config.sample_size
        return side * self.pipe.vae_scale_factor if isinstance(side, int) else None

    def edits(
        self, picture: Image.Image, mask: Image.Image | None, wishes: list[Wish]
    ) -> Iterator[Progress | list[Image.Image]]:
        """Edit a picture by each wish: progress step by step, and at last all results.

        Whoever stops asking stops the edit within a step. Raises ValueError or MemoryError, in a sentence.
        """
        told: queue.Queue[Any] = queue.Queue()
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(picture, mask, wishes, told, stop), daemon=True)
        thread.start()
        try:
            while True:
                word = told.get()
                if isinstance(word, Exception):
                    raise word
                yield word
                if isinstance(word, list):
                    return
        finally:
            stop.set()
            thread.join()

    def _run(
        self,
        picture: Image.Image,
        mask: Image.Image | None,
        wishes: list[Wish],
        told: "queue.Queue[Any]",
        stop: threading.Event,
    ) -> None:
        end = time.monotonic() + self.max_seconds
        results: list[Image.Image] = []

        def watch(done: int, total: int, x0: Callable[[], Tensor]) -> None:
            if stop.is_set():
                raise StoppedError
            if time.monotonic() > end:
                raise ValueError(
                    f"This took longer than {self.max_seconds:g} seconds and was stopped: try fewer steps."
                )
            told.put(Progress(len(results) * total + done, len(wishes) * total, self._preview(x0)))

        try:
            with self.lock:
                for wish in wishes:
                    results.append(self._edit(picture, mask, wish, watch))
            told.put(results)
        except StoppedError:
            pass
        except Exception as error:
            told.put(error)

    def _edit(self, picture: Image.Image, mask: Image.Image | None, wish: Wish, watch: Any) -> Image.Image:
        try:
            output = self.pipe(
                wish.instruction,
                picture,
                mask_image=mask,
                mask_feather=wish.mask_feather,
                num_inference_steps=wish.num_inference_steps,
                guidance_scale=wish.guidance_scale,
                image_guidance_scale=wish.image_guidance_scale,
                negative_prompt=wish.negative_prompt or None,
                generator=torch.Generator().manual_seed(wish.seed),
                resolution=self.resolution,
                watch=watch,
            )
        except (MemoryError, *NONSENSE) as error:
            if is_out_of_memory(error):
                raise MemoryError("There is too little memory for this picture: try a smaller one.") from error
            raise ValueError(f"This edit can't be computed ({first_line(error)}).") from error
        if any(output.nsfw_content_detected or []):
            raise ValueError("The model's safety checker took the result for unsafe: try another seed.")
        return output.images[0]

    def _preview(self, x0: Callable[[], Tensor]) -> Image.Image | None:
        """The picture as it comes, where decoding it costs little."""
        if self.pipe.vae.config.sample_size > SMALL:
            return None
        return to_pil(decode(self.pipe.vae, x0()[:1])[0] / 2 + 0.5)

    def tries(self, wish: Wish, count: int) -> list[Wish]:
        """The wish, and others like it with other seeds and scales about its own."""
        return [
            replace(wish, **vars(trial))
            for trial in trials(count, wish.seed, wish.guidance_scale, wish.image_guidance_scale)
        ]

    def rank(self, picture: Image.Image, edits: list[Image.Image], captions: tuple[str, str]) -> list[Ranked]:
        """The edits by CLIP, the best first."""
        with self.lock:
            if self.judge is None:
                self.judge = self.make_judge()
            return ranked(self.judge, picture, edits, captions, least_image_similarity(self.clip_model))


def make_judge(clip_model: str, device: torch.device) -> Any:
    """What ranks by CLIP."""
    from ...training.evaluate.clip_scores import ClipJudge
    from ...training.pairs.clip_filter import ClipScorer

    return ClipJudge(ClipScorer(clip_model, "openai", device))
