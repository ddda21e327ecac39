"""Text2LIVE: a network trained on one picture alone puts an edited layer over it (Bar-Tal et al., arXiv 2204.02491)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.optim import MADGRAD
from torch import Tensor
from torchvision import transforms

from ..pairs.clip_filter import ClipScorer
from .edit_layer import EditLayer, composite, scales_for
from .methods import Setting
from .samples import Sample
from .text2live_losses import LayerLoss, Weights, pushed

WHOLE_EVERY = 75  # steps; at the others a crop is seen
LEARNING_RATE, FALL, LEAST = 2.5e-3, 0.99, 1e-5


@dataclass
class Text2LIVE:
    """Text2LIVE with the published losses, weights and schedule.

    Its dial is how many steps each picture is trained for: the paper's are 1,000.

    clip_model, clip_pretrained: of open_clip; the paper's is ViT-B-32 of openai
    """

    clip_model: str = "ViT-B-32"
    clip_pretrained: str | None = "openai"
    weights: Weights = field(default_factory=Weights)
    short_side: int = 512
    name: str = "Text2LIVE"
    dial: str = "iterations"
    device: str = "cpu"
    captions: tuple[str, ...] = ("original_prompt", "edited_prompt")
    by_chance: bool = True
    one_by_one: bool = True
    scorer: ClipScorer | None = field(default=None, repr=False)

    def identity(self) -> dict[str, Any]:
        """CLIP, and the weights of the loss."""
        clip = f"{self.clip_model}/{self.clip_pretrained}"
        return {"clip": clip, "short_side": self.short_side, "weights": asdict(self.weights)}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """Train a network for each, one after another."""
        edited = []
        for sample, picture, seed in zip(samples, pictures, seeds, strict=True):
            loss = LayerLoss(self.clip(), sample.original_prompt, sample.edited_prompt, self.weights)
            made, _ = self.train(as_tensor(self.sized(picture)).to(self.device), loss, int(setting[self.dial]), seed)
            pixels = (made[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            edited.append(Image.fromarray(pixels).resize(picture.size, Image.Resampling.BICUBIC))
        return edited

    def free(self) -> None:
        """Let go of CLIP."""
        self.scorer = None

    def clip(self) -> ClipScorer:
        """CLIP, loaded when it is first wanted."""
        if self.scorer is None:
            self.scorer = ClipScorer(self.clip_model, self.clip_pretrained, self.device)
        return self.scorer

    def sized(self, picture: Image.Image) -> Image.Image:
        """The picture, made smaller where its short side is longer than the setting's."""
        scale = self.short_side / min(picture.size)
        if scale >= 1:
            return picture
        width, height = (round(side * scale) for side in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)

    @staticmethod
    def train(picture: Tensor, loss: LayerLoss, steps: int, seed: int) -> tuple[Tensor, list[dict[str, float]]]:
        """The picture [1, 3, H, W] with its layer, and the terms of the loss at each step."""
        crop = transforms.Compose(
            [
                transforms.RandomApply([transforms.ColorJitter(0.1, 0.1, 0.1, 0.1)], 0.1),
                transforms.RandomHorizontalFlip(),
            ]
        )
        history = []
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(seed)
            network = EditLayer(scales_for(*picture.shape[-2:])).to(picture.device)
            optimizer = MADGRAD(network.parameters(), lr=LEARNING_RATE)
            for step in range(steps):
                seen = [rescaled_crop(crop(picture)) if loss.weights.distorted else pushed(picture)]
                if step % WHOLE_EVERY == 0:
                    seen.append(picture)
                terms = [loss(network(each), each) for each in seen]
                total = torch.stack([each["loss"] for each in terms]).mean()
                optimizer.zero_grad(set_to_none=True)
                total.backward()
                optimizer.step()
                for group in optimizer.param_groups:
                    group["lr"] = max(LEAST, group["lr"] * FALL)
                history.append({name: float(value.detach()) for name, value in terms[-1].items()})
            with torch.no_grad():
                return composite(network(picture), picture), history


def rescaled_crop(picture: Tensor) -> Tensor:
    """The picture at 0.8 to 1.2 of its size, and of that at least 85% of each side."""
    scale = float(torch.empty(()).uniform_(0.8, 1.2))
    height, width = (max(16, round(side * scale)) for side in picture.shape[-2:])
    grown = transforms.Resize([height, width], antialias=True)(picture)
    cover = float(torch.empty(()).uniform_(0.85, 1))
    return transforms.RandomCrop([max(16, int(height * cover)), max(16, int(width * cover))])(grown)


def as_tensor(picture: Image.Image) -> Tensor:
    """A picture as [1, 3, H, W], from 0 to 1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
