"""What Text2LIVE asks of a layer, by CLIP, and how much each counts (Bar-Tal et al. 2022, section 3; their weights)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import transforms

from ..pairs.clip_filter import ClipScorer
from .edit_layer import composite, on_screen

TEMPLATES = (
    "photo of {}.",
    "high quality photo of {}.",
    "a photo of {}.",
    "the photo of {}.",
    "image of {}.",
    "an image of {}.",
    "high quality image of {}.",
    "a high quality image of {}.",
    "the {}.",
    "a {}.",
    "{}.",
    "{}",
    "{}!",
    "{}...",
)
PUSH, NOISE = 2, 0.05


@dataclass(frozen=True)
class Weights:
    """What each term counts, and the texts.

    composition: the composite shows the caption, and changed as the captions do
    screen:      the layer alone, on green, shows the caption
    structure:   parts of the composite are as like each other as parts of the picture
    sparsity:    little of the picture is covered
    views:       of each picture that CLIP compares
    distorted:   they are crops, flipped, bent and recoloured; else whole, but for a push of up to 2 pixels, and noisy:
                 where captions tell places, a flip makes them wrong
    """

    composition: float = 1.0
    screen: float = 1.0
    structure: float = 2.0
    sparsity: float = 6.0
    templates: tuple[str, ...] = TEMPLATES
    screen_template: str = "{} over a green screen."
    views: int = 16
    distorted: bool = True


class LayerLoss:
    """The loss of a layer for a pair of captions."""

    def __init__(self, scorer: ClipScorer, original_prompt: str, edited_prompt: str, weights: Weights) -> None:
        self.scorer, self.weights = scorer, weights
        visual = scorer.model.visual
        self.size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
        self.mean, self.std = (
            torch.tensor(each, device=scorer.device).view(1, 3, 1, 1) for each in (visual.image_mean, visual.image_std)
        )
        self.original = self.texts(original_prompt, weights.templates)
        self.edited = self.texts(edited_prompt, weights.templates)
        self.screen = self.texts(edited_prompt, (weights.screen_template,))
        smooth = transforms.InterpolationMode.BILINEAR
        moved = transforms.RandomAffine(15, (0.1, 0.1), interpolation=smooth, fill=1)
        self.distort = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([moved], 0.8),
                transforms.RandomPerspective(0.4, 0.5, interpolation=smooth, fill=1),
                transforms.RandomApply([transforms.ColorJitter(0.1, 0.1, 0.1, 0.1)], 0.7),
                transforms.RandomGrayscale(0.15),
            ]
        )

    def __call__(self, layer: Tensor, picture: Tensor) -> dict[str, Tensor]:
        """The terms for a layer [1, 4, H, W] over a picture [1, 3, H, W], and `loss`, their weighted sum."""
        weights, made = self.weights, composite(layer, picture)
        some = torch.randint(len(self.edited), (int(torch.randint(1, len(self.edited) + 1, ())),))
        before, after = self.encode(self.views(picture)), self.encode(self.views(made))
        change = self.edited[some] - self.original[some]
        alpha = layer[:, 3:]
        terms = {
            "caption": spherical(after, self.edited[some]),
            "direction": (1 - F.cosine_similarity((after - before)[:, None], change[None], dim=-1)).mean(),
            "screen": spherical(self.encode(self.views(on_screen(layer))), self.screen),
            "structure": F.mse_loss(self.self_similarity(made), self.self_similarity(picture).detach()),
            "sparsity": 0.01 * alpha.mean() + 0.01 * (2 * (5 * alpha).sigmoid() - 1).mean(),
        }
        loss = (
            weights.composition * (terms["caption"] + terms["direction"])
            + weights.screen * terms["screen"]
            + weights.structure * terms["structure"]
            + weights.sparsity * terms["sparsity"]
        )
        return {**terms, "loss": loss}

    @torch.no_grad()
    def texts(self, text: str, templates: tuple[str, ...]) -> Tensor:
        """Features [N, d] of a text in each template."""
        tokens = self.scorer.tokenizer([template.format(text) for template in templates])
        return self.scorer.model.encode_text(tokens.to(self.scorer.device)).float()

    def views(self, picture: Tensor) -> Tensor:
        """The picture whole, and others of it, each changed in its own way."""
        if not self.weights.distorted:
            whole = self.resized(picture)
            return torch.cat([whole, *(noisy(pushed(whole)) for _ in range(self.weights.views - 1))])
        views = [self.distort(self.resized(picture))]
        for _ in range(self.weights.views - 1):
            share = float(torch.empty(()).uniform_(0.6, 1))
            crop = transforms.RandomCrop([max(1, int(side * share)) for side in picture.shape[-2:]])
            views.append(self.distort(self.resized(crop(picture))))
        return torch.cat(views)

    def resized(self, picture: Tensor) -> Tensor:
        """The picture at the size that CLIP takes."""
        return F.interpolate(picture, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)

    def encode(self, views: Tensor) -> Tensor:
        """CLIP's features [N, d] of views."""
        return self.scorer.model.encode_image(((views - self.mean) / self.std).to(self.scorer.dtype)).float()

    def self_similarity(self, picture: Tensor) -> Tensor:
        """How alike each two of the tokens are that CLIP sees before its last block: [T, T], cosines."""
        visual = self.scorer.model.visual
        seen: list[Tensor] = []

        def keep(_: Any, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        # A transformer's last block, or the last stage of a residual network.
        block = visual.transformer.resblocks[-1] if hasattr(visual, "transformer") else visual.layer4
        hook = block.register_forward_pre_hook(keep)
        self.encode(self.resized(picture))
        hook.remove()
        tokens = seen[0][0] if seen[0].ndim == 3 else seen[0][0].flatten(1).T
        unit = F.normalize(tokens.float(), dim=-1)
        return unit @ unit.T


def pushed(picture: Tensor) -> Tensor:
    """The picture, pushed by up to `PUSH` pixels in any direction; its border grows where it leaves room."""
    height, width = picture.shape[-2:]
    return transforms.RandomCrop([height, width])(F.pad(picture, [PUSH] * 4, mode="replicate"))


def noisy(picture: Tensor) -> Tensor:
    """The picture in slightly other colours, as a whole and at each pixel."""
    return picture + NOISE * (torch.randn(1, 3, 1, 1, device=picture.device) + torch.randn_like(picture))


def spherical(features: Tensor, texts: Tensor) -> Tensor:
    """Mean squared great-circle distance, times two, of features [N, d] and texts [M, d]."""
    one, two = F.normalize(features, dim=-1)[:, None], F.normalize(texts, dim=-1)[None]
    return (2 * ((one - two).norm(dim=-1) / 2).clamp(max=1 - 1e-6).asin().square()).mean()
