"""A widened U-Net computes what it did before."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from ip2p.ip2p_pipeline.widening import widen


@pytest.mark.parametrize("channels", [4, 3])
def test_the_new_channels_change_nothing(channels: int) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    torch.nn.init.normal_(unet.conv_in.bias)
    latents, text, t = torch.randn(2, channels, 8, 8), torch.randn(2, 5, 8), torch.tensor([10, 900])
    with torch.no_grad():
        before = unet(latents, t, text).sample
        after = widen(unet)(torch.cat([latents, torch.randn_like(latents)], dim=1), t, text).sample
    assert torch.equal(before, after)
    assert unet.config.in_channels == unet.conv_in.in_channels == 2 * channels


def test_precision_stays() -> None:
    unet = torch.nn.Module()
    unet.conv_in = torch.nn.Conv2d(4, 8, 3, padding=1, bias=False).half()
    unet.register_to_config = lambda **_: None  # type: ignore[assignment]
    assert widen(unet).conv_in.weight.dtype == torch.float16 and unet.conv_in.bias is None
