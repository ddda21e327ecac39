"""Which maps LocalBlend collects."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from ip2p.training.pairs.local_blend import map_side


@pytest.mark.parametrize("latent_side", [64, 66, 70])
def test_the_maps_to_collect_are_of_a_size_that_the_unet_has(latent_side: int) -> None:
    levels = 3
    unet = UNet2DConditionModel(
        block_out_channels=(8,) * levels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
    )
    seen = set()
    for name, part in unet.named_modules():
        if name.endswith("attn2"):
            part.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].shape[1]))
    with torch.inference_mode():
        unet(torch.zeros(1, 4, latent_side, latent_side), 1, torch.zeros(1, 5, 8))
    assert map_side(unet, latent_side) ** 2 in seen
