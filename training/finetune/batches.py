"""Batches as the U-Net is trained on them, read ahead by threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ...ip2p_pipeline.text import Text
from .draws import Dropped, Scales, draw_dropped, draw_noise, draw_scales
from .encode import Encoder, Latents
from .settings import FinetuneSettings

AHEAD = 2  # batches

T = TypeVar("T")
R = TypeVar("R")


class Numbered(Protocol):
    """A place in a batch."""

    @property
    def number(self) -> int:
        """Counted through the whole training."""


class Ordered(Protocol):
    """Which places make up the batches: `order.Order`, or `stream.Stream`."""

    def batches(self, first: int, stride: int) -> Iterator[list[Any]]:
        """Every so many batches from the first on, without end."""


class Material(Protocol):
    """What batches are made of: `material.Pictures`, `stream.Stream`, or `cache.Cached`."""

    def prepare(self, place: Any) -> Any | None:
        """What is needed of the example at a place, with its `text` and `time_ids`; None where it can't be read. Called
        by threads."""

    def latents(self, pairs: list[Any]) -> Latents:
        """The latents of what was prepared."""

    def texts(self, texts: list[str]) -> Text:
        """The embeddings of instructions; "" is ∅."""

    def held_out(self) -> list[Any]:
        """What was prepared of pairs that are not trained on, of one size."""


@dataclass
class Batch:
    """N examples on the device.

    latents:   the target, a sample of the picture after, scaled, [N, 4, h, w]
    condition: the mode of the picture before, unscaled, zeros where it is dropped, [N, 4, h, w]
    text:      embeddings [N, tokens, width], or token ids [N, tokens] where the text encoder is trained
    pooled, time_ids: SDXL's, [N, width] and [N, 6]
    noise, timesteps: of the diffusion, [N, 4, h, w] and [N]
    weight:    what each example counts, [N]
    scales:    for a distilled model, s_T and s_I, [N, 2]
    """

    latents: Tensor
    condition: Tensor
    text: Tensor
    pooled: Tensor | None
    time_ids: Tensor
    noise: Tensor
    timesteps: Tensor
    weight: Tensor
    scales: Tensor | None = None

    def added(self) -> dict[str, Tensor] | None:
        """SDXL's further conditions."""
        return None if self.pooled is None else {"text_embeds": self.pooled, "time_ids": self.time_ids}


class Batches:
    """The batches of one of several processes, from a step on."""

    def __init__(
        self,
        material: Material,
        order: Ordered,
        settings: FinetuneSettings,
        device: torch.device,
        *,
        scaling_factor: float,
        timesteps: int,
        encoder: Encoder | None = None,
        scales: Scales | None = None,
    ) -> None:
        """
        scaling_factor: the autoencoder's
        timesteps:      of the noise schedule
        encoder:        gives token ids rather than embeddings, where the text encoder is trained
        scales:         of a distilled model, those that it learns
        """
        self.material, self.order, self.settings, self.device = material, order, settings, device
        self.scaling_factor, self.timesteps, self.encoder, self.scales = scaling_factor, timesteps, encoder, scales

    def of_process(self, step: int, process: int, processes: int) -> Iterator[Batch]:
        """The batches of a process, one for each accumulation of each step, without end."""
        first = step * self.settings.accumulation * processes + process
        places = self.order.batches(first, processes)
        with ThreadPoolExecutor(self.settings.workers) as pool:
            for group, pairs in ahead(places, self.material.prepare, pool):
                yield self.batch(group, filled(pairs))

    def batch(self, places: Sequence[Numbered], pairs: list[Any]) -> Batch:
        """The batch of what was prepared for these places."""
        seed, numbers = self.settings.seed, [place.number for place in places]
        dropped = [draw_dropped(number, seed, self.settings) for number in numbers]
        latents = self.material.latents(pairs)
        shape, shift = tuple(latents.mean.shape[1:]), self.settings.timestep_shift
        draws = draw_noise(numbers, seed, shape, self.timesteps, shift)
        return self.put_together(pairs, latents, draws, dropped, numbers)

    def plain_batch(self, numbers: list[int], pairs: list[Any], timestep: int) -> Batch:
        """A batch at one timestep of which nothing is dropped; its noise is that of these numbers."""
        latents = self.material.latents(pairs)
        sample, noise, steps = draw_noise(numbers, self.settings.seed, tuple(latents.mean.shape[1:]), self.timesteps)
        draws = sample, noise, torch.full_like(steps, timestep)
        return self.put_together(pairs, latents, draws, [Dropped(False, False)] * len(pairs), numbers)

    def put_together(
        self,
        pairs: list[Any],
        latents: Latents,
        draws: tuple[Tensor, Tensor, Tensor],
        dropped: list[Dropped],
        numbers: list[int],
    ) -> Batch:
        """A batch on the device, of the places with these numbers; `draws` is what `draw_noise` gives."""
        mean, std, mode = (part.to(self.device, torch.float32) for part in latents)
        sample, noise, timesteps = (part.to(self.device) for part in draws)
        texts = ["" if drop.text else pair.text for pair, drop in zip(pairs, dropped, strict=True)]
        shown = torch.tensor([float(not drop.image) for drop in dropped], device=self.device)
        weight = torch.tensor([self.settings.dropped_weight if any(drop) else 1.0 for drop in dropped])
        if self.encoder is None:
            text, pooled = self.material.texts(texts)
        else:
            text, pooled = self.encoder.tokens(texts), None
        scales = None if self.scales is None else draw_scales(numbers, self.settings.seed, self.scales)
        return Batch(
            latents=(mean + std * sample) * self.scaling_factor,
            condition=mode * shown.view(-1, 1, 1, 1),
            text=text.to(self.device),
            pooled=None if pooled is None else pooled.to(self.device),
            time_ids=torch.stack([pair.time_ids for pair in pairs]).to(self.device),
            noise=noise,
            timesteps=timesteps,
            weight=weight.to(self.device),
            scales=None if scales is None else scales.to(self.device),
        )


def filled(pairs: list[Any | None]) -> list[Any]:
    """A batch whose examples that can't be read are replaced by others of it. Raises ValueError where all are such."""
    good = [pair for pair in pairs if pair is not None]
    if not good:
        raise ValueError(
            f"None of {len(pairs)} examples in a row can be read: look at the data with ip2p dataset show."
        )
    return [good[at % len(good)] if pair is None else pair for at, pair in enumerate(pairs)]


def ahead(
    groups: Iterable[list[T]], work: Callable[[T], R], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[T], list[R]]]:
    """Each group with the results of its members, the next groups already at work."""
    waiting: deque[tuple[list[T], list[Any]]] = deque()
    for group in groups:
        waiting.append((group, [pool.submit(work, each) for each in group]))
        if len(waiting) > AHEAD:
            done, futures = waiting.popleft()
            yield done, [future.result() for future in futures]
    while waiting:
        done, futures = waiting.popleft()
        yield done, [future.result() for future in futures]
