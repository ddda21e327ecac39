"""The memory account is that of the weights, and of what a real forward pass keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_data import settings
from ip2p.ip2p_pipeline.single_file import write_configuration
from ip2p.training.finetune.memory import Kept, account
from pairs_models import base_pipeline, xl_pipeline

GIB = 2**30


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    base_pipeline().save_pretrained(folder)
    return str(folder)


def counted(model: str, **given: Any) -> dict[str, int]:
    return account(settings(model=model, **given))


def test_weights_gradients_moments_and_averages_are_counted(tiny: str) -> None:
    unet, vae = base_pipeline().unet, base_pipeline().vae
    new = unet.conv_in.weight.numel()  # of the wider conv_in
    count = sum(p.numel() for p in unet.parameters()) + new
    found = counted(tiny)
    assert found["trained weights"] == found["gradients"] == found["average of the weights"] == 4 * count
    assert found["moments of the optimizer"] == 8 * count
    assert found["autoencoder"] == 4 * sum(p.numel() for p in vae.parameters())
    cached = counted(tiny, cache=True, optimizer="adamw8bit", ema_on_cpu=True)
    assert cached["moments of the optimizer"] == 2 * count
    assert not {"autoencoder", "text encoder", "average of the weights"} & cached.keys()


def test_a_lora_needs_little_and_half_precision_halves_what_is_frozen(tiny: str) -> None:
    full, lora = counted(tiny), counted(tiny, train="lora", lora_rank=2)
    assert lora["trained weights"] < 0.3 * full["trained weights"]
    half = counted(tiny, train="lora", lora_rank=2, mixed_precision="fp16")
    assert half["frozen weights of the U-Net"] == lora["frozen weights of the U-Net"] // 2
    assert half["activations"] == pytest.approx(lora["activations"] / 2, rel=0.1)


@pytest.mark.parametrize("xl", [False, True], ids=["sd", "sdxl"])
def test_activations_are_those_of_a_real_pass(xl: bool, tmp_path: Path) -> None:
    base = xl_pipeline() if xl else base_pipeline()
    base.save_pretrained(tmp_path)
    found = counted(str(tmp_path), batch_size=3, resolution=64, resize_max=64)["activations"]
    kept = Kept(base.unet)
    base.unet.train().requires_grad_(True)
    with kept.hooks():
        width = base.unet.config.cross_attention_dim
        added = {"text_embeds": torch.randn(3, 48), "time_ids": torch.ones(3, 6)} if xl else None
        base.unet(torch.randn(3, 4, 16, 16), torch.zeros(3), torch.randn(3, 77, width), added_cond_kwargs=added)
    base.unet.eval()
    assert found == pytest.approx(kept.most, rel=0.1)
    saved = counted(str(tmp_path), batch_size=3, resolution=64, resize_max=64, gradient_checkpointing=True)[
        "activations"
    ]
    assert saved < 0.8 * found


def test_the_lora_recipe_fits_12_gb(tmp_path: Path) -> None:
    write_configuration(tmp_path, xl=False)
    recipe = {"batch_size": 4, "resolution": 512, "resize_max": 576, "gradient_checkpointing": True, "cache": True}
    found = counted(str(tmp_path), train="lora", lora_rank=64, mixed_precision="fp16", **recipe)
    assert 1.5 * GIB < found["frozen weights of the U-Net"] < 1.7 * GIB
    assert sum(found.values()) < 6 * GIB


def test_a_file_tells_no_configuration() -> None:
    with pytest.raises(ValueError, match="not by a file's"):
        counted("model.safetensors")
