"""Likeness as networks see it: DINO's features, and LPIPS."""

from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision import transforms

DINO = "vit_small_patch16_224.dino"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Dino:
    """Cosine of DINO's features (Caron et al. 2021), of ViT-S/16, as MagicBrush and Emu Edit measure it."""

    def __init__(self, device: torch.device | str = "cpu", model: Any = None) -> None:
        """`model` takes the place of the one that timm gives: pictures [N, 3, 224, 224] to features [N, d].

        Raises ValueError where the weights can't be had.
        """
        self.device = torch.device(device)
        loaded = (
            fetched("DINO", lambda: timm.create_model(DINO, pretrained=True, num_classes=0)) if model is None else model
        )
        self.model = loaded.eval().requires_grad_(False).to(self.device)
        self.preprocess = transforms.Compose(
            [
                transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(**IMAGENET),
            ]
        )

    @torch.inference_mode()
    def score(self, picture: np.ndarray, other: np.ndarray) -> dict[str, float]:
        """`dino`: at most 1, of equal pictures. They are [H, W, 3] uint8."""
        pixels = torch.stack([self.preprocess(Image.fromarray(each)) for each in (picture, other)])
        one, two = F.normalize(self.model(pixels.to(self.device)).double().cpu(), dim=-1)
        return {"dino": float(one @ two)}


class Lpips:
    """LPIPS (Zhang et al. 2018) with AlexNet."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Raises ValueError where the weights can't be had."""
        self.device = torch.device(device)
        make = lambda: LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)  # noqa: E731
        self.model = fetched("LPIPS", make).to(self.device)

    @torch.inference_mode()
    def score(self, picture: np.ndarray, other: np.ndarray) -> dict[str, float]:
        """`lpips`: 0 of equal pictures [H, W, 3] uint8 of the same size."""
        one, two = (self.tensor(each) for each in (picture, other))
        self.model.reset()
        return {"lpips": float(self.model(one, two))}

    def tensor(self, picture: np.ndarray) -> Tensor:
        """A picture as [1, 3, H, W], from 0 to 1."""
        return torch.from_numpy(picture).permute(2, 0, 1)[None].float().to(self.device) / 255


def fetched(name: str, load: Callable[[], Any]) -> Any:
    """A model whose weights come from the network. Raises ValueError where they don't."""
    try:
        return load()
    except Exception as error:  # each library has its own for what can't be fetched
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"The weights of {name} are not here and can't be fetched ({reason}): leave it out of --metrics."
        ) from error
