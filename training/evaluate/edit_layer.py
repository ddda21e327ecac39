"""Text2LIVE's generator: a picture in, an RGBA layer of its size out (Bar-Tal et al. 2022, arXiv 2204.02491)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCREEN = (0.0, 177 / 255, 64 / 255)
"""The green that a layer is shown on by itself."""


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution over a mirrored border, normalised and rectified."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect" if kernel > 1 else "zeros"),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2),
    )


class EditLayer(nn.Module):
    """A U-Net with thin skips, as in Deep Image Prior: 3 channels in, 4 out, from 0 to 1."""

    def __init__(self, scales: int = 7, width: int = 128, skip: int = 4) -> None:
        super().__init__()
        inputs = [3, *[width] * (scales - 1)]
        self.skips = nn.ModuleList(convolution(each, skip, 1) for each in inputs)
        self.downs = nn.ModuleList(
            nn.Sequential(convolution(each, width, 3, stride=2), convolution(width, width, 3)) for each in inputs
        )
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width + skip), convolution(width + skip, width, 3), convolution(width, width, 1)
            )
            for _ in inputs
        )
        self.out = nn.Conv2d(width, 4, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """The layer [N, 4, H, W] for pictures [N, 3, H, W] from 0 to 1."""
        kept, x = [], picture
        for skip, down in zip(self.skips, self.downs, strict=True):
            kept.append(skip(x))
            x = down(x)
        for up, skipped in zip(reversed(self.ups), reversed(kept), strict=True):
            grown = F.interpolate(x, size=skipped.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([skipped, grown], dim=1))
        return self.out(x).sigmoid()


def scales_for(height: int, width: int) -> int:
    """As many scales as the paper's seven, or as leave a grid of at least four by four."""
    return max(1, min(7, int(math.log2(min(height, width))) - 2))


def composite(layer: Tensor, picture: Tensor) -> Tensor:
    """The layer [N, 4, H, W] over the picture."""
    colour, alpha = layer[:, :3], layer[:, 3:]
    return alpha * colour + (1 - alpha) * picture


def on_screen(layer: Tensor) -> Tensor:
    """The layer over green."""
    return composite(layer, torch.tensor(SCREEN, device=layer.device).view(1, 3, 1, 1))
