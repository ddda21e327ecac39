"""The native loader: ComfyUI's own models, from diffusers' layout, that compute the same."""

from pathlib import Path

import diffusers
import pytest
import torch
from comfy_host import COMFYUI, Host, a_host  # noqa: F401 - a fixture
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.ip2p_pipeline.original_layout import UNET, original_layout, told_by_keys, unet_weights
from ip2p.ip2p_pipeline.single_file import SD, SDXL, clip_tokenizer
from safetensors.torch import save_file
from tiny_models import sd_pipeline, sdxl_pipeline
from transformers import CLIPTextConfig, CLIPTextModel

real = pytest.mark.skipif(COMFYUI is None, reason="needs a real ComfyUI at COMFYUI_PATH")


def sd15(folder: Path) -> InstructPix2PixPipeline:
    """An InstructPix2Pix model of SD 1.5's true configuration and random weights, in half precision on disk."""
    torch.manual_seed(0)
    pipe = InstructPix2PixPipeline(
        vae=diffusers.AutoencoderKL(**SD["vae"]),
        text_encoder=CLIPTextModel(CLIPTextConfig(**SD["text_encoder"])),
        tokenizer=clip_tokenizer("<|endoftext|>"),
        unet=diffusers.UNet2DConditionModel(**SD["unet"]),
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        text_encoder_2=None,
        tokenizer_2=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipe.to(torch.float16).save_pretrained(folder)
    return pipe.to(torch.float32)


def sd15_file(folder: Path) -> None:
    """Such a model as the file that the example workflow names."""
    folder.mkdir(parents=True)
    weights = original_layout(sd15(folder / "aside"))
    weights = {name: tensor.detach().half().contiguous().clone() for name, tensor in weights.items()}
    save_file(weights, folder / "instruct-pix2pix-00-22000.safetensors")


@real
@pytest.mark.slow
def test_a_fine_tuned_sd_1_5_computes_the_same(host: Host) -> None:
    pipe = sd15(host.folder / "diffusers" / "mine")
    model, clip, vae = host.execute("Ip2pNativeLoader", model="mine")
    assert type(model.model).__name__ == "SD15_instructpix2pix"
    noise = torch.Generator().manual_seed(1)
    sample, text = torch.randn(1, 8, 8, 8, generator=noise), torch.randn(1, 77, 768, generator=noise)
    with torch.no_grad():
        theirs = model.model.diffusion_model.float()(sample, torch.tensor([500.0]), context=text)
        ours = pipe.unet(sample, 500, text).sample
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)
        picture = torch.rand(1, 64, 64, 3, generator=noise)
        mode = pipe.vae.encode(picture.movedim(-1, 1) * 2 - 1).latent_dist.mode()
        torch.testing.assert_close(vae.encode(picture).float(), mode, rtol=1e-2, atol=1e-2)
        [[embedded, _]] = clip.encode_from_tokens_scheduled(clip.tokenize("make it winter"))
        expected, _ = pipe.encode_prompt("make it winter")
        torch.testing.assert_close(embedded.float(), expected, rtol=1e-2, atol=1e-2)


def sd2(folder: Path) -> InstructPix2PixPipeline:
    """One of SD 2.1's make that predicts the velocity, with fewer blocks and layers."""
    torch.manual_seed(0)
    pipe = sd_pipeline(
        vae=diffusers.AutoencoderKL(**SD["vae"]),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=1, hidden_act="gelu"
            )
        ),
        tokenizer=clip_tokenizer("!"),
        unet=diffusers.UNet2DConditionModel(
            in_channels=8,
            block_out_channels=(320, 320),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=(5, 5),
            cross_attention_dim=1024,
            use_linear_projection=True,
        ),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
    )
    pipe.save_pretrained(folder)
    return pipe


@real
@pytest.mark.slow
def test_one_of_sd_2_is_shown_the_picture_and_predicts_what_it_was_trained_for(host: Host) -> None:
    pipe = sd2(host.folder / "diffusers" / "mine")
    model, _, vae = host.execute("Ip2pNativeLoader", model="mine")
    assert hasattr(model.model, "process_ip2p_image_in")
    noise = torch.Generator().manual_seed(1)
    sample, shown = torch.randn(2, 1, 4, 8, 8, generator=noise)
    text = torch.randn(1, 77, 1024, generator=noise)
    told = {"noise": sample, "concat_latent_image": shown, "cross_attn": text, "device": torch.device("cpu")}
    conds = {name: cond.cond for name, cond in model.model.extra_conds(**told).items()}
    sigma = model.model.model_sampling.sigma(torch.tensor([500.0]))
    with torch.no_grad():
        model.model.diffusion_model.float()
        denoised = model.model.apply_model(sample, sigma, **conds)
        scale = 1 / (sigma**2 + 1) ** 0.5
        velocity = pipe.unet(torch.cat([sample * scale, shown], dim=1), 500, text).sample
    torch.testing.assert_close(denoised, sample * scale**2 - velocity * sigma * scale, rtol=1e-3, atol=1e-3)
    guider, _ = host.execute(
        "Ip2pGuider",
        model=model,
        positive=[[text, {}]],
        negative=[[text, {}]],
        vae=vae,
        image=torch.rand(1, 64, 64, 3),
        guidance_scale=7.5,
        image_guidance_scale=1.5,
    )
    assert set(guider.original_conds) == {"positive", "middle", "negative"}


@real
def test_one_of_sdxl_has_the_names_and_shapes_that_comfyui_looks_for() -> None:
    """Without weights, which would be 7 GB."""
    from comfy.model_detection import model_config_from_unet

    with torch.device("meta"):
        weights = unet_weights(diffusers.UNet2DConditionModel(**SDXL["unet"]))
    config = model_config_from_unet(weights, UNET)
    model = config.get_model(weights, UNET, device="meta")
    assert type(model).__name__ == "SDXL_instructpix2pix"
    asked = {UNET + name: part.shape for name, part in model.diffusion_model.state_dict().items()}
    assert {name: part.shape for name, part in weights.items()} == asked


@real
@pytest.mark.parametrize("name", ["shapes", "tiny"])
def test_architectures_that_comfyui_lacks_are_told(host: Host, name: str) -> None:
    folder = host.folder / "diffusers" / name
    if name == "shapes":
        folder.symlink_to(SHAPES_MODEL)
    else:
        sd_pipeline().save_pretrained(folder)
    with pytest.raises(ValueError, match=f"no architecture like that of {name}: use Load InstructPix2Pix"):
        host.execute("Ip2pNativeLoader", model=name)


def test_a_folder_that_is_gone_is_told(host: Host) -> None:
    with pytest.raises(FileNotFoundError, match="no folder gone"):
        host.execute("Ip2pNativeLoader", model="gone")


def test_how_an_sdxl_model_predicts_is_told_as_comfyui_reads_it() -> None:
    pipe = sdxl_pipeline()
    assert "v_pred" not in original_layout(pipe)
    pipe.scheduler = diffusers.EulerDiscreteScheduler(prediction_type="v_prediction")
    assert "v_pred" in original_layout(pipe)
    cosxl = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=120.0, prediction_type="v_prediction")
    told = told_by_keys(cosxl.config)
    assert float(told["edm_vpred.sigma_max"]) == 120
    assert float(told["edm_vpred.sigma_min"]) == pytest.approx(0.002)
