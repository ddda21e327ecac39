"""What a training gives loads in ours and in diffusers' own pipelines, and computes the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionXLInstructPix2PixPipeline
from finetune_data import encoder, settings
from ip2p import InstructPix2PixPipeline
from ip2p.ip2p_pipeline.original_layout import original_layout
from ip2p.training.finetune.export import export
from ip2p.training.finetune.trainee import choose
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import distance, edit, noise, picture, quiet, sd_pipeline, sdxl_pipeline


def learnt(pipe: Any) -> Any:
    """Weights that are trained move, as if something had been learnt."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in pipe.unet.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return pipe


@pytest.mark.parametrize("xl", [False, True], ids=["sd", "sdxl"])
def test_a_folder_loads_in_ours_and_in_stock(xl: bool, tmp_path: Path) -> None:
    pipe = encoder(xl).pipe
    choose(pipe, settings())
    assert export(learnt(pipe), tmp_path, settings()) == [tmp_path / "pipeline"]
    ours = quiet(InstructPix2PixPipeline.from_pretrained(tmp_path / "pipeline"))
    cls = StableDiffusionXLInstructPix2PixPipeline if xl else StableDiffusionInstructPix2PixPipeline
    stock = quiet(cls.from_pretrained(tmp_path / "pipeline"))
    assert ours.unet.config.in_channels == stock.unet.config.in_channels == 8
    assert distance(edit(ours), edit(quiet(pipe))) < 1e-4
    assert all(torch.equal(a, b) for a, b in zip(ours.unet.parameters(), stock.unet.parameters(), strict=True))


@pytest.mark.parametrize("xl", [False, True], ids=["sd", "sdxl"])
def test_a_lora_loads_in_ours_and_in_stock_and_is_merged_in_the_folder(xl: bool, tmp_path: Path) -> None:
    given = settings(train="lora", lora_rank=3)
    pipe = encoder(xl).pipe
    choose(pipe, given)
    trained = edit(quiet(learnt(pipe)))
    assert export(pipe, tmp_path, given) == [tmp_path / "pipeline", tmp_path / "lora"]
    with safe_open(tmp_path / "lora" / "pytorch_lora_weights.safetensors", framework="pt") as file:
        told = json.loads(file.metadata()["lora_adapter_metadata"])
    assert told["unet.r"] == told["unet.lora_alpha"] == 3
    assert told["unet.rank_pattern"] == told["unet.alpha_pattern"] == {"conv_in": 72}  # by which it is loaded
    assert distance(edit(quiet(InstructPix2PixPipeline.from_pretrained(tmp_path / "pipeline"))), trained) < 1e-3
    fresh = quiet(encoder(xl).pipe)
    before = edit(fresh)
    fresh.load_lora_weights(tmp_path / "lora")
    assert distance(edit(fresh), trained) < 1e-3 < distance(before, trained)
    cls = StableDiffusionXLInstructPix2PixPipeline if xl else StableDiffusionInstructPix2PixPipeline
    components = {name: part for name, part in encoder(xl).pipe.components.items() if name in cls._get_init_keys(cls)}
    stock = quiet(cls(**components, **({} if xl else {"requires_safety_checker": False})))
    stock.load_lora_weights(tmp_path / "lora")
    made = stock("make it winter", image=picture(), num_inference_steps=3, generator=noise(), output_type="pt").images
    assert distance(made, trained) < 1e-3


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_a_single_file_holds_the_same_weights(make: Any, tmp_path: Path) -> None:
    pipe = make()
    given = settings(single_file=True)
    assert export(pipe, tmp_path, given)[1] == tmp_path / "model.safetensors"
    tensors = load_file(tmp_path / "model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    loaded = InstructPix2PixPipeline.from_single_file(
        tmp_path / "model.safetensors", config=str(tmp_path / "pipeline"), torch_dtype=torch.float32
    )
    for name in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if pipe.is_xl else [])):
        expected = getattr(pipe, name).state_dict()
        found = getattr(loaded, name).state_dict()
        assert found.keys() == expected.keys(), name
        assert all(torch.allclose(found[key], tensor.float(), atol=2e-3) for key, tensor in expected.items()), name
    names = original_layout(pipe)
    assert names["model.diffusion_model.input_blocks.0.0.weight"].shape[1] == 8  # how ComfyUI knows an editor
