"""Which candidates become pairs: CLIP similarities, and the rules that they are judged by."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..shapes.models import SHAPES_CLIP
from .candidates import PairTriplet, Rendered, Scores
from .filter_settings import FilterSettings, thresholds

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PRECISIONS = {torch.float32: "fp32", torch.float16: "pure_fp16", torch.bfloat16: "pure_bf16"}
NO_CHANGE = 1e-6  # shorter differences of unit features are rounding


class ClipScorer:
    """Scores candidates with a CLIP model of open_clip, with its own preprocessing and tokenizer."""

    def __init__(
        self,
        model: str,
        pretrained: str | None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        batch_size: int = 64,
    ) -> None:
        """Load the model.

        model, pretrained: as `FilterSettings.clip_model` and `clip_pretrained`
        batch_size:        pictures that are encoded at a time

        Raises ValueError where it can't be had, MemoryError where it does not fit.
        """
        self.device, self.dtype, self.batch_size = torch.device(device), dtype, batch_size
        name, weights = locate(model, pretrained)
        try:
            with no_log_setup():
                self.model, self.preprocess = load_model(name, weights, self.device, dtype)
                self.tokenizer = load_tokenizer(name)
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"There is too little memory on {device} for the CLIP model {model}.") from error
        except Exception as error:  # a damaged file fails anywhere in open_clip, timm or transformers
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            hint = "" if name.startswith("local-dir:") else " Where the Hub can't be reached, give a folder."
            raise ValueError(f"The CLIP model {model} can't be loaded: {reason}.{hint}") from error

    @torch.inference_mode()
    def score(self, triplet: PairTriplet, rendered: Sequence[Rendered]) -> list[Scores]:
        """The scores of a triplet's candidates, in the order of their numbers: each group's targets in turn.

        Scores are whole float32 numbers, so that what is stored as such is judged the same again. They are NaN where
        the model's features are. Raises MemoryError.
        """
        try:
            original, edited = self.encode_texts([triplet.original_prompt, triplet.edited_prompt])
            pictures = self.encode_pictures([each for group in rendered for each in (group.source, *group.targets)])
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"There is too little memory on {self.device} for CLIP to see {self.batch_size} pictures at a time."
            ) from error
        scores = []
        for group in pictures.split([1 + len(group.targets) for group in rendered]):
            source, targets = group[:1], group[1:]
            columns = (
                (source @ original).expand(len(targets)),
                targets @ edited,
                targets @ source[0],
                direction_similarity(targets - source, edited - original),
            )
            rows = torch.stack(columns, dim=1).clamp(-1, 1).float().tolist()
            scores += [Scores(*row) for row in rows]
        return scores

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Unit features [N, d] of texts, cut where they are too long for the model; float64 on the CPU."""
        return unit(self.model.encode_text(self.tokenizer(texts).to(self.device)))

    def encode_pictures(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Unit features [N, d] of pictures [H, W, 3] uint8; float64 on the CPU."""
        features = []
        for start in range(0, len(pictures), self.batch_size):
            batch = pictures[start : start + self.batch_size]
            pixels = torch.stack([self.preprocess(Image.fromarray(picture)) for picture in batch])
            features.append(unit(self.model.encode_image(pixels.to(self.device, self.dtype))))
        return torch.cat(features)


def unit(features: Tensor) -> Tensor:
    """Features of length 1, as float64 on the CPU."""
    return F.normalize(features.float().cpu().double(), dim=-1)


def direction_similarity(images: Tensor, texts: Tensor) -> Tensor:
    """Cosine between changes of unit features: of pictures [N, d] and of captions [d] → [N]. 0 where nothing changed.

    From StyleGAN-NADA (Gal et al. 2021), as InstructPix2Pix (Brooks et al. 2023) filters its pairs.
    """
    unchanged = (images.norm(dim=-1) < NO_CHANGE) | (texts.norm() < NO_CHANGE)
    return F.cosine_similarity(images, texts[None], dim=-1).masked_fill(unchanged, 0.0)


def verdicts(
    scores: Sequence[Scores], seeds: Sequence[int], settings: FilterSettings, unsafe: Sequence[bool] | None = None
) -> list[str]:
    """What becomes of each candidate of a triplet: "kept", or the first rule that turns it away.

    "not_finite"          a score is no number
    "original_caption"    the source does not show its caption
    "edited_caption"      the target does not show its caption
    "image"               source and target are too unlike
    "direction"           the pictures do not change as the captions do
    "nsfw"                `unsafe` says so
    "same_seed"           `max_per_seed` candidates of its seed with a better directional similarity are kept
    "beyond_best"         `max_per_triplet` candidates with a better directional similarity are kept

    Of equal ones the lower number is the better.
    """
    least = thresholds(settings)
    verdict = []
    for each, is_unsafe in zip(scores, [False] * len(scores) if unsafe is None else unsafe, strict=True):
        if not all(math.isfinite(score) for score in vars(each).values()):
            verdict.append("not_finite")
        elif each.original_caption_similarity < least.caption:
            verdict.append("original_caption")
        elif each.edited_caption_similarity < least.caption:
            verdict.append("edited_caption")
        elif each.image_similarity < least.image:
            verdict.append("image")
        elif each.directional_similarity < least.direction:
            verdict.append("direction")
        else:
            verdict.append("nsfw" if is_unsafe else "kept")

    kept: Counter[int] = Counter()  # by seed
    passed = [number for number, word in enumerate(verdict) if word == "kept"]
    for number in sorted(passed, key=lambda number: -scores[number].directional_similarity):
        if kept[seeds[number]] == settings.max_per_seed:
            verdict[number] = "same_seed"
        elif kept.total() == settings.max_per_triplet:
            verdict[number] = "beyond_best"
        else:
            kept[seeds[number]] += 1
    return verdict


def locate(model: str, pretrained: str | None) -> tuple[str, str | None]:
    """open_clip's own words for a model and its weights. Raises ValueError where it has none such."""
    name = model.replace("/", "-")  # ViT-L/14, as papers write it
    if model == "shapes":
        return check_folder(SHAPES_CLIP), None
    if model.startswith("hf-hub:"):
        return model, None
    if model.startswith("local-dir:"):
        return check_folder(Path(model.removeprefix("local-dir:"))), None
    if name not in open_clip.list_models():
        if not Path(model).is_dir():
            raise ValueError(
                f'There is no CLIP model {model}: name one of open_clip\'s, such as ViT-L-14, a folder, or "shapes".'
            )
        return check_folder(Path(model)), None
    if pretrained and Path(pretrained).suffix == ".safetensors" and Path(pretrained).is_file():
        return name, pretrained
    if not pretrained or not open_clip.is_pretrained_cfg(name, pretrained):
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ValueError(
            f"open_clip has no weights {pretrained or ''} for {model}: give --clip-pretrained one that it has "
            f"({known}), or a .safetensors file."
        )
    return name, pretrained


def check_folder(folder: Path) -> str:
    """open_clip's name of a folder. Raises ValueError unless it has a configuration, and weights as safetensors."""
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise ValueError(
                f"{folder} is no folder of a CLIP model in open_clip's format: it has no {file}. Weights in other "
                "files are not read, since a pickled one can run any code."
            )
    return f"local-dir:{folder}"


def load_model(
    name: str, pretrained: str | None, device: torch.device, dtype: torch.dtype
) -> tuple[Any, Callable[[Image.Image], Tensor]]:
    """A model of open_clip with its weights, and its preprocessing.

    open_clip takes safetensors where the Hub has them, and other files only as plain tensors. By name alone it would
    give a model of another activation than some weights were trained with, OpenAI's among them.
    """
    tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained else {}
    model, preprocess = open_clip.create_model_from_pretrained(
        name,
        pretrained,
        precision=PRECISIONS[dtype],
        device=device,
        force_quick_gelu=bool(tag.get("quick_gelu")),
        weights_only=True,
    )
    return model.eval().requires_grad_(False), preprocess


def load_tokenizer(name: str) -> Callable[[list[str]], Tensor]:
    """The tokenizer of a model. A folder or repository can't make it run code of its own."""
    from_transformers = open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name")
    return open_clip.get_tokenizer(name, **({"trust_remote_code": False} if from_transformers else {}))


@contextmanager
def no_log_setup() -> Iterator[None]:
    """Keep open_clip, which logs to the root logger, from setting it up to print everyone's warnings."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
