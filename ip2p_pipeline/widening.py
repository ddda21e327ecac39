"""A text-to-image U-Net made to read a picture beside the noise (InstructPix2Pix, section 3.2)."""

from typing import Any

import torch
from torch import nn


def widen(unet: Any) -> Any:
    """Give a text-to-image U-Net, in place, as many input channels again, for the source's latent.

    The new channels' weights are zero and the bias stays, so the widened U-Net computes what it did.
    """
    old = unet.conv_in
    channels = old.in_channels
    new = nn.Conv2d(2 * channels, old.out_channels, old.kernel_size, padding=old.padding, bias=old.bias is not None)
    new = new.to(old.weight)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :channels] = old.weight
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=2 * channels)
    return unet
