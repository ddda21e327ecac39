import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from ip2p.training.pairs.prompt_to_prompt import Control, ControlledAttention, Plan, controlled
from pairs_models import base_pipeline


def attention(**config):
    torch.manual_seed(0)
    made = Attention(query_dim=16, heads=2, dim_head=8, bias=True, **config)
    made.set_processor(AttnProcessor2_0())
    return made.eval()


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("config", "shape", "context"),
    [
        ({}, (3, 20, 16), None),
        ({"cross_attention_dim": 12}, (3, 20, 16), (3, 7, 12)),
        ({"norm_num_groups": 4, "residual_connection": True, "rescale_output_factor": 2.0}, (3, 16, 5, 4), None),
        ({"cross_attention_dim": 12, "cross_attention_norm": "layer_norm"}, (3, 20, 16), (3, 7, 12)),
        ({"qk_norm": "layer_norm"}, (3, 20, 16), None),
    ],
)
def test_without_a_plan_it_is_diffusers_attention(config, shape, context):
    """Group norm, residual and rescaling included."""
    layer, x = attention(**config), noise(*shape)
    text = None if context is None else noise(*context, seed=2)
    theirs = layer(x, text)
    layer.set_processor(ControlledAttention(Control(), is_self=context is None))
    assert torch.allclose(layer(x, text), theirs, atol=1e-5)


def test_a_mask_is_heeded():
    layer, x, text = attention(cross_attention_dim=12), noise(2, 20, 16), noise(2, 7, 12, seed=2)
    mask = torch.zeros(2, 1, 7)
    mask[:, :, 4:] = -10_000.0
    theirs = layer(x, text, attention_mask=mask)
    layer.set_processor(ControlledAttention(Control(), is_self=False))
    assert torch.allclose(layer(x, text, attention_mask=mask), theirs, atol=1e-5)


def test_rows_take_queries_and_keys_of_their_origin_and_keep_their_values():
    layer, x = attention(), noise(3, 20, 16)
    control = Control(Plan(self_origin=[0, 0, 2]))
    layer.set_processor(ControlledAttention(control, is_self=True))
    made = layer(x)
    query, key, value = (layer.head_to_batch_dim(to(x)) for to in (layer.to_q, layer.to_k, layer.to_v))
    maps = layer.get_attention_scores(query, key).unflatten(0, (3, 2))[[0, 0, 2]].flatten(0, 1)
    plain = layer.to_out[0](layer.batch_to_head_dim(maps @ value))
    assert torch.allclose(made, plain, atol=1e-5)
    assert not torch.allclose(made[1], made[0], atol=1e-3)


def test_large_maps_can_be_left_alone():
    layer, x = attention(), noise(2, 20, 16)
    own = layer(x)
    for most, taken in ((19, False), (20, True)):
        layer.set_processor(ControlledAttention(Control(Plan([0, 0], self_tokens=most)), is_self=True))
        assert torch.allclose(layer(x)[1], own[1], atol=1e-5) is not taken


def test_the_processors_that_were_there_are_back_even_after_an_error():
    unet = base_pipeline().unet
    before = dict(unet.attn_processors)
    with pytest.raises(KeyboardInterrupt), controlled(unet, Control()):
        assert all(isinstance(each, ControlledAttention) for each in unet.attn_processors.values())
        raise KeyboardInterrupt
    assert unet.attn_processors == before
