"""Which pairs are kept. Nothing heavy is imported here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Least CLIP similarities of a pair that is kept, cosines from -1 to 1."""

    caption: float
    """Of each picture with its own caption."""
    image: float
    """Of the two pictures with each other."""
    direction: float
    """Of the change between the pictures with the change between the captions."""


PAPER_THRESHOLDS = Thresholds(caption=0.2, image=0.75, direction=0.2)
"""The paper's, for ViT-L/14. The released code keeps images from 0.70."""
SHAPES_THRESHOLDS = Thresholds(caption=0.87, image=0.3, direction=0.9)
"""For the CLIP of the shapes world, which knows its captions far better than CLIP those of photographs, and sees much
of a picture change in an edit. Chosen on triplets that no figure in the docs is of."""


@dataclass(kw_only=True)
class FilterSettings:
    """Model and thresholds that pairs are filtered by, and how many are kept."""

    clip_model: str = "ViT-L-14"
    """open_clip's name of the model, hf-hub: and a repository of the Hub, a folder in open_clip's format (local-dir:
    before it or not), or "shapes" (the small CLIP inside this package)."""
    clip_pretrained: str | None = "openai"
    """open_clip's name of the weights. Folders, repositories and "shapes" have their own, and ignore this."""
    min_caption_similarity: float | None = None
    """Least CLIP similarity of each picture with its caption. Default: 0.2, or what suits shapes."""
    min_image_similarity: float | None = None
    """Least CLIP similarity of the two pictures. Default: the paper's 0.75 (the released code has 0.70), or what suits
    shapes."""
    min_directional_similarity: float | None = None
    """Least CLIP similarity of the change of the pictures with that of the captions. Default: 0.2, or what suits
    shapes."""
    max_per_triplet: int = 4
    """Pairs of a triplet that are kept at most, those of the best directional similarity."""
    max_per_seed: int = 1
    """Pairs of a triplet with one seed, and so one original picture, that are kept at most."""

    def __post_init__(self) -> None:
        for name in ("min_caption_similarity", "min_image_similarity", "min_directional_similarity"):
            least = getattr(self, name)
            if least is not None and not -1 <= least <= 1:
                raise ValueError(f"--{name.replace('_', '-')} is a cosine from -1 to 1, not {least}.")
        for name in ("max_per_triplet", "max_per_seed"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {getattr(self, name)}.")


def thresholds(settings: FilterSettings) -> Thresholds:
    """The thresholds that were set, and for others those that suit the model."""
    default = SHAPES_THRESHOLDS if settings.clip_model == "shapes" else PAPER_THRESHOLDS
    return Thresholds(
        caption=or_else(settings.min_caption_similarity, default.caption),
        image=or_else(settings.min_image_similarity, default.image),
        direction=or_else(settings.min_directional_similarity, default.direction),
    )


def or_else(value: float | None, default: float) -> float:
    """A value, or where there is none the default."""
    return default if value is None else value
