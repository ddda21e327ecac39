"""LocalBlend: a target stays its source wherever neither caption's changed words are attended to.

Hertz et al. 2022, section 4: cross-attention maps averaged, widened by a max-pool, scaled to 1 and cut at a threshold.
"""

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

START = 0.2  # share of the steps before it begins
THRESHOLD = 0.3
SIDE = 16  # tokens on a side of the maps, or the nearest that the U-Net has


def map_side(unet: UNet2DConditionModel, latent_side: int) -> int:
    """Tokens on a side of the cross-attention maps to collect: 16, or what is nearest to it."""
    levels = enumerate(unet.config.down_block_types)
    # Each level has half of the one before, rounded up.
    sides = [-(-latent_side >> level) for level, block in levels if "CrossAttn" in block]
    return min(sides, key=lambda side: abs(side - SIDE))


def blend_masks(source: Tensor, targets: Tensor, changed: tuple[Tensor, Tensor], size: int) -> Tensor:
    """Where targets may differ from their source: [N, 1, size, size] of 0 and 1.

    source, targets: maps summed over layers and steps, [tokens, T] and [N, tokens, T]
    changed:         the tokens of the source's and of the targets' caption that the other lacks, [T] bool each
    """
    attended = torch.stack([source[:, changed[0]].sum(dim=-1), *(each[:, changed[1]].sum(dim=-1) for each in targets)])
    side = round(attended.shape[1] ** 0.5)
    maps = F.max_pool2d(attended.view(-1, 1, side, side), 3, stride=1, padding=1)
    maps = F.interpolate(maps, size=(size, size))
    # Where no word changed, all is zero and nothing is let through.
    masks = maps > THRESHOLD * maps.amax(dim=(2, 3), keepdim=True)
    return (masks[:1] | masks[1:]).to(source.dtype)
