"""Latents and embeddings of all examples, encoded once, and read by every step without autoencoder or text encoder.

    pictures-00000-HASH.safetensors   rows 0…1023: for each size `row` [n], and of each variant (crop and mirror image)
                                      `mean`, `std`, `mode` [n, variants, 4, h, w] and `time_ids` [n, variants, 6]
    texts-00000-HASH.safetensors      `embeds` [n, tokens, width], and SDXL's `pooled` [n, width]

HASH tells what went in: pictures and texts, how they were cropped, and the weights that encoded them. So a cache of
another model or of other data is not read, and what is there of a stopped one is kept.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from ...ip2p_pipeline.text import Text
from ..checkpoints import write_tensors
from .crops import nearest, opened, sizes
from .encode import Encoder, Latents, fingerprint
from .examples import Example, Examples
from .material import crop_pair
from .order import Place, Size, rng_of
from .settings import FinetuneSettings

ROWS = 1024  # of a file of pictures
TEXTS = 1024  # of a file of texts
CROPPING = ("resolution", "resize_max", "flip", "buckets", "cache_variants", "seed")


class CachedPair(NamedTuple):
    """A pair as it is read."""

    latents: Latents
    text: str
    time_ids: Tensor


def build_pictures(folder: Path, examples: Examples, encoder: Encoder, settings: FinetuneSettings) -> list[Path]:
    """Encode the pictures that the folder lacks, shared out among the processes; the files of all, in order."""
    vae = encoder.pipe.vae
    how = json.dumps(
        [fingerprint(vae.encoder, vae.quant_conv), str(encoder.dtype), [getattr(settings, name) for name in CROPPING]]
    )
    state = PartialState()
    paths = []
    starts = range(0, len(examples), ROWS)
    for index, start in enumerate(tqdm(starts, desc="caching pictures", disable=not state.is_main_process)):
        rows = range(start, min(start + ROWS, len(examples)))
        path = folder / f"pictures-{index:05d}-{content_hash(how, (read(examples, row) for row in rows))}.safetensors"
        paths.append(path)
        if index % state.num_processes == state.process_index and not path.exists():
            write_tensors(path, *encode_rows(rows, examples, encoder, settings))
    state.wait_for_everyone()
    return paths


def read(examples: Examples, row: int) -> Example | str:
    """An example, or why it can't be read."""
    try:
        return examples[row]
    except ValueError as error:
        return str(error)


def content_hash(how: str, examples: Iterable[Example | str]) -> str:
    """A hash of what goes into a file."""
    digest = hashlib.sha256(how.encode())
    for example in examples:
        for part in (example,) if isinstance(example, str) else example.contents():
            digest.update(len(part).to_bytes(8, "big") + (part if isinstance(part, bytes) else part.encode()))
    return digest.hexdigest()[:16]


def encode_rows(
    rows: range, examples: Examples, encoder: Encoder, settings: FinetuneSettings
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file of pictures, and its notes: which rows were skipped and why."""
    known = sizes(settings.resolution, settings.buckets)
    waiting: dict[Size, list[tuple[int, Any]]] = {size: [] for size in known}
    done: dict[str, list[Tensor]] = {}
    skipped = {}

    def encode(size: Size) -> None:
        """Encode what waits of a size."""
        pairs = [pair for _, variants in waiting[size] for pair in variants]
        latents = encoder.pictures(*(torch.stack([getattr(p, name) for p in pairs]) for name in ("before", "after")))
        for name, part in zip(Latents._fields, latents, strict=True):
            done.setdefault(f"{key(size)}.{name}", []).append(
                part.half().cpu().unflatten(0, (-1, settings.cache_variants))
            )
        time_ids = torch.stack([pair.time_ids for pair in pairs]).unflatten(0, (-1, settings.cache_variants))
        done.setdefault(f"{key(size)}.time_ids", []).append(time_ids)
        done.setdefault(f"{key(size)}.row", []).append(torch.tensor([row for row, _ in waiting[size]]))
        waiting[size].clear()

    for row in rows:
        try:
            example = examples[row]
            before, _ = opened(example)
            size = nearest((before.height, before.width), known)
            rngs = [rng_of(settings.seed, "crop", row, variant) for variant in range(settings.cache_variants)]
            variants = [crop_pair(example, size, rng, settings) for rng in rngs]
        except ValueError as error:
            skipped[row] = str(error)
            continue
        waiting[size].append((row, variants))
        if len(waiting[size]) * settings.cache_variants >= settings.batch_size:
            encode(size)
    for size in known:
        if waiting[size]:
            encode(size)
    return {name: torch.cat(parts) for name, parts in done.items()}, {"skipped": json.dumps(skipped)}


def key(size: Size) -> str:
    """A size in the names of tensors."""
    return f"{size[0]}x{size[1]}"


def build_texts(folder: Path, texts: list[str], encoder: Encoder) -> list[Path]:
    """Encode the texts that the folder lacks, shared out among the processes; the files of all, in order."""
    pipe = encoder.pipe
    how = json.dumps(
        [
            fingerprint(pipe.text_encoder, pipe.text_encoder_2),
            str(encoder.dtype),
            pipe.config.force_zeros_for_empty_prompt,
        ]
    )
    state = PartialState()
    paths = []
    groups = iter(texts)
    parts: Iterator[list[str]] = iter(lambda: list(islice(groups, TEXTS)), [])
    total = -(-len(texts) // TEXTS)
    for index, part in enumerate(tqdm(parts, total=total, desc="caching texts", disable=not state.is_main_process)):
        path = folder / f"texts-{index:05d}-{content_hash(how, part)}.safetensors"
        paths.append(path)
        if index % state.num_processes == state.process_index and not path.exists():
            encoded = [encoder.texts(part[at : at + 64]) for at in range(0, len(part), 64)]
            tensors = {"embeds": torch.cat([each.embeds for each in encoded]).half().cpu()}
            if pipe.is_xl:
                tensors["pooled"] = torch.cat([each.pooled for each in encoded if each.pooled is not None]).half().cpu()
            write_tensors(path, tensors, {})
    state.wait_for_everyone()
    return paths


class Cached:
    """Examples from a cache, for `Batches`.

    members: the triplets of each size that can be read
    skipped: rows that were not, and why
    files:   those that are read
    """

    def __init__(
        self, examples: Examples, pictures: list[Path], texts: dict[str, int], text_files: list[Path], seed: int
    ) -> None:
        """
        texts:      the place of each text in the cache
        text_files: empty where the text encoder is trained
        """
        self.examples, self.texts_at, self.seed = examples, texts, seed
        self.instructions = list(examples.rows["edit_prompt"])  # a column of `datasets` looks each one up for long
        self.files = [*pictures, *text_files]
        self.pictures: list[dict[str, Tensor]] = []
        self.text_files = [mapped(opened_file(path)) for path in text_files]
        self.skipped: dict[int, str] = {}
        self.where: dict[int, tuple[int, Size, int]] = {}  # file, size and place in it
        for index, path in enumerate(pictures):
            file = opened_file(path)
            self.skipped |= {int(row): why for row, why in json.loads(file.metadata()["skipped"]).items()}
            self.pictures.append(mapped(file))
            for name, tensor in self.pictures[-1].items():
                told, _, what = name.partition(".")
                if what == "row":
                    height, width = map(int, told.split("x"))
                    for place, row in enumerate(tensor.tolist()):
                        self.where[row] = (index, (height, width), place)
        self.members: dict[Size, list[int]] = {}
        self.rows: list[list[int]] = []
        for triplet, rows in enumerate(examples.triplets):
            readable = [row for row in rows if row in self.where]
            # A triplet's pairs are of one size; should they not be, those of the first one's are taken.
            self.rows.append([row for row in readable if self.where[row][1] == self.where[readable[0]][1]])
            if readable:
                self.members.setdefault(self.where[readable[0]][1], []).append(triplet)

    def prepare(self, place: Place) -> CachedPair:
        """A random variant of a random pair of a triplet."""
        rng = rng_of(self.seed, "pair", place.number)
        return self.pair(rng.choice(self.rows[place.triplet]), rng.random())

    def pair(self, row: int, u: float = 0.0) -> CachedPair:
        """A row's pair, of the variant that u, from 0 to 1, falls on."""
        index, size, at = self.where[row]
        parts = {name: self.pictures[index][f"{key(size)}.{name}"] for name in (*Latents._fields, "time_ids")}
        variant = int(u * parts["mean"].shape[1])
        tensors = {name: part[at, variant] for name, part in parts.items()}
        time_ids = tensors.pop("time_ids")
        return CachedPair(Latents(**tensors), self.instructions[row], time_ids)

    def held_out(self) -> list[CachedPair]:
        """Pairs that are not trained on, as far as they can be read; of the most frequent size."""
        found = [row for row in self.examples.held_out if row in self.where]
        of_size = Counter(self.where[row][1] for row in found)
        return [self.pair(row) for row in found if self.where[row][1] == max(of_size, key=lambda size: of_size[size])]

    def latents(self, pairs: list[CachedPair]) -> Latents:
        """The latents of pairs of one size."""
        return Latents(*(torch.stack(parts) for parts in zip(*(pair.latents for pair in pairs), strict=True)))

    def texts(self, texts: list[str]) -> Text:
        """The embeddings of instructions; "" is ∅."""
        found: dict[str, list[Tensor]] = {}
        for text in texts:
            index, at = divmod(self.texts_at[text], TEXTS)
            for name, tensor in self.text_files[index].items():
                found.setdefault(name, []).append(tensor[at : at + 1])
        parts = {name: torch.cat(each).float() for name, each in found.items()}
        return Text(parts["embeds"], parts.get("pooled"))


def opened_file(path: Path) -> Any:
    """A file of the cache. Raises ValueError where it is damaged."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: remove it, and run the same command again ({error}).") from error


def mapped(file: Any) -> dict[str, Tensor]:
    """All tensors of a file. They are mapped to memory: of the disk is read what is used of them."""
    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safetensors handle is no mapping)


def build(folder: Path, examples: Examples, encoder: Encoder, settings: FinetuneSettings) -> Cached:
    """Complete the cache in a folder, and open it."""
    pictures = build_pictures(folder, examples, encoder, settings)
    texts = list(dict.fromkeys(["", *(text for text in examples.rows["edit_prompt"] if text)]))
    files = [] if settings.train_text_encoder else build_texts(folder, texts, encoder)
    return Cached(examples, pictures, {text: at for at, text in enumerate(texts)}, files, settings.seed)
