"""Makes the part of one triplet: draw, render, score, judge, and encode what is kept.

A triplet is always made by itself, so its part is the same whatever is made beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import pyarrow as pa
import torch

from ...ip2p_pipeline.devices import find_device, find_dtype
from .candidates import PairTriplet, Rendered, SeedGroup, draw_groups
from .checkpoint import load_base
from .clip_filter import ClipScorer, verdicts
from .features import KEPT
from .maker_settings import MakerSettings
from .nsfw import NsfwCheck, load_nsfw_check
from .parts import encoded, failed_part, made_part
from .refilter import judge_again
from .renderer import Renderer, RenderError


class PairMaker:
    """Makes parts. Each model is loaded when it is first needed."""

    def __init__(self, settings: MakerSettings) -> None:
        self.settings = settings

    @cached_property
    def device(self) -> torch.device:
        """Where to compute. On the CPU with one thread: sums round otherwise by how many there are."""
        device = find_device(self.settings.device)
        if device.type == "cpu":
            torch.set_num_threads(1)
        return device

    @cached_property
    def renderer(self) -> Renderer:
        """What draws the pictures."""
        settings = self.settings
        dtype = find_dtype(settings.dtype, self.device)
        return Renderer(load_base(settings.model, settings.vae, self.device, dtype), settings)

    @cached_property
    def paper_renderer(self) -> Renderer:
        """What draws triplets of `paper_kinds`, with the same model."""
        return Renderer(self.renderer.base, replace(self.settings, method="paper"))

    @cached_property
    def scorer(self) -> ClipScorer:
        """What measures the candidates."""
        return ClipScorer(self.settings.clip_model, self.settings.clip_pretrained, self.device)

    @cached_property
    def nsfw_check(self) -> NsfwCheck | None:
        """What finds pictures that no pair may hold, if that is asked for."""
        name = self.settings.nsfw_check
        return None if name == "none" else load_nsfw_check(name, self.device)

    def make(self, place: int, triplet: PairTriplet, known: pa.Table | None = None) -> pa.Table:
        """The part of a triplet. One that can't be made has a single row, which says why.

        With `known`, its part in an earlier run, the candidates are judged again instead of drawn.
        """
        for name in ("original_prompt", "edit_prompt", "edited_prompt"):
            if not getattr(triplet, name).strip():
                return failed_part(place, triplet, f"The triplet has no {name}.")

        def render(groups: Sequence[SeedGroup]) -> list[Rendered]:
            by_paper = triplet.kind in (self.settings.paper_kinds or ())
            renderer = self.paper_renderer if by_paper else self.renderer
            return renderer.render(triplet.original_prompt, triplet.edited_prompt, groups)

        try:
            if known is not None:
                return judge_again(known, self.settings, render, self.nsfw_check)
            groups = draw_groups(triplet, self.settings)
            rendered = render(groups)
            scores = self.scorer.score(triplet, rendered)
            seeds = [group.seed for group in groups for _ in group.ps]
            judged = verdicts(scores, seeds, self.settings)
            if self.nsfw_check is not None:
                judged = verdicts(scores, seeds, self.settings, find_unsafe(self.nsfw_check, rendered, judged))
        except RenderError as error:
            return failed_part(place, triplet, str(error))
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"There is too little memory on {self.device} for --batch-size {self.settings.batch_size} and --seeds "
                f"{self.settings.seeds}: give less, and run the same command again."
            ) from error
        candidates = [(group, which) for group in rendered for which in range(len(group.targets))]
        pictures = [
            encoded(group, which, self.settings.image_format) if verdict == KEPT else None
            for (group, which), verdict in zip(candidates, judged, strict=True)
        ]
        return made_part(place, triplet, groups, scores, judged, pictures)


PASSED = (KEPT, "same_seed", "beyond_best")
"""Verdicts, before any check, of candidates that no threshold turned away."""


def find_unsafe(check: NsfwCheck, rendered: Sequence[Rendered], judged: Sequence[str]) -> list[bool]:
    """Which candidates hold a picture that no pair may hold. Those that a threshold turned away are not looked at."""
    unsafe: list[bool] = []
    for group in rendered:
        verdicts_here = judged[len(unsafe) : len(unsafe) + len(group.targets)]
        chosen = [which for which, verdict in enumerate(verdicts_here) if verdict in PASSED]
        told = check([group.source, *(group.targets[which] for which in chosen)]) if chosen else [False]
        found = dict(zip(chosen, told[1:], strict=True))
        unsafe += [bool(which in found and (told[0] or found[which])) for which in range(len(group.targets))]
    return unsafe
