"""What diffusers asks of its own pipelines: signature, outputs, precision, callbacks, memory savers, schedulers."""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from accelerate import disk_offload
from diffusers.callbacks import PipelineCallback
from tiny_models import SD_SCHEDULE, counted_samples, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4
MAKERS = [sd_pipeline, sdxl_pipeline]
both = pytest.mark.parametrize("make", MAKERS)


def test_the_signature_has_what_diffusers_code_passes() -> None:
    parameters = inspect.signature(sd_pipeline().__call__).parameters
    assert list(parameters)[:2] == ["prompt", "image"]
    assert {
        "num_inference_steps",
        "generator",
        "guidance_scale",
        "image_guidance_scale",
        "negative_prompt",
        "prompt_embeds",
        "negative_prompt_embeds",
        "num_images_per_prompt",
        "latents",
        "eta",
        "output_type",
        "return_dict",
        "cross_attention_kwargs",
        "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
        "ip_adapter_image",
        "ip_adapter_image_embeds",
    } <= set(parameters)


@both
def test_dict_and_tuple_hold_the_same(make) -> None:
    pipe = make()
    call: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    output = pipe("red", picture(), generator=noise(), **call)
    images, unsafe = pipe("red", picture(), generator=noise(), return_dict=False, **call)
    assert distance(output.images, images) == 0
    assert output.nsfw_content_detected is unsafe is None


@both
def test_the_same_seed_gives_the_same_picture(make) -> None:
    pipe = make()
    assert torch.equal(edit(pipe), edit(pipe))
    assert distance(edit(pipe), edit(pipe, generator=noise(1))) > CLOSE


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(make, dtype: torch.dtype) -> None:
    pipe = make().to(dtype=dtype)
    pipe.vae.register_to_config(force_upcast=True)
    result = edit(pipe)
    assert pipe.vae.dtype == dtype  # float32 for SDXL's autoencoder is only lent
    assert result.isfinite().all()
    assert distance(result, edit(make())) < 0.3


def test_parts_may_have_precisions_of_their_own() -> None:
    pipe = sd_pipeline()
    pipe.unet.to(torch.bfloat16)
    assert edit(pipe).isfinite().all()


@both
def test_encode_prompt_in_isolation(make) -> None:
    pipe = make()
    names = ("prompt_embeds", "pooled_prompt_embeds")
    given = dict(zip(names, pipe.encode_prompt("make it winter"), strict=True))
    negative = pipe.encode_prompt("summer")
    given |= {f"negative_{name}": part for name, part in zip(names, negative, strict=True)}
    want = edit(pipe, negative_prompt="summer")
    assert distance(edit(pipe, None, **given), want) < CLOSE
    pipe.register_modules(text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None)
    assert distance(edit(pipe, None, **given), want) < CLOSE


@both
def test_clip_skip(make) -> None:
    pipe = make()
    assert distance(edit(pipe, clip_skip=1), edit(pipe)) > CLOSE
    if not pipe.is_xl:
        assert distance(edit(pipe, clip_skip=0), edit(pipe)) < CLOSE


@both
def test_callbacks_see_and_change_the_run(make) -> None:
    pipe = make()
    seen: list[tuple[int, dict[str, tuple[int, ...]]]] = []

    def look(_pipe: Any, step: int, _time: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append((step, {name: tuple(tensor.shape) for name, tensor in tensors.items()}))
        return tensors

    every = pipe._callback_tensor_inputs
    watched = edit(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=every)
    width = pipe.unet.config.cross_attention_dim
    shapes = {"latents": (1, 4, 16, 16), "prompt_embeds": (3, 77, width), "image_latents": (3, 4, 16, 16)}
    assert seen == [(step, shapes) for step in range(3)]
    assert distance(watched, edit(pipe)) < CLOSE

    def black(_pipe: Any, step: int, _time: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    assert not edit(pipe, callback_on_step_end=black, output_type="latent").any()

    def forget_text(_pipe: Any, step: int, _time: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"prompt_embeds": tensors["prompt_embeds"][[1, 1, 1]]}

    forgetful = {"callback_on_step_end": forget_text, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    if not pipe.is_xl:  # SDXL reads the pooled text as well
        assert distance(edit(pipe, "red", **forgetful), edit(pipe, "red")) > CLOSE


@both
def test_callbacks_change_the_scales(make) -> None:
    pipe = make()

    def stronger(pipe: Any, _step: int, _time: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        pipe._guidance_scale += 1.0
        return tensors

    strong = edit(pipe, guidance_scale=3.0, callback_on_step_end=stronger)
    assert pipe.guidance_scale == 3.0 + pipe.num_timesteps == 6.0
    assert distance(strong, edit(pipe, guidance_scale=3.0)) > CLOSE

    def off(pipe: Any, _step: int, _time: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        pipe._guidance_scale = pipe._image_guidance_scale = 1.0
        return tensors

    with counted_samples(pipe) as counts:
        edit(pipe, callback_on_step_end=off)
    assert counts == [3, 1, 1]


def test_diffusers_own_callback_objects_work() -> None:
    class Double(PipelineCallback):
        tensor_inputs = ("latents",)

        def callback_fn(self, pipeline: Any, step_index: int, timestep: int, callback_kwargs: dict) -> dict:
            return {"latents": callback_kwargs["latents"] * 0}

    pipe = sd_pipeline()
    assert not edit(pipe, callback_on_step_end=Double(cutoff_step_ratio=0.5), output_type="latent").any()


@both
def test_interrupt(make) -> None:
    pipe = make()
    steps: list[int] = []

    def stop(pipe: Any, step: int, _time: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        steps.append(step)
        pipe._interrupt = step == 1
        return tensors

    edit(pipe, num_inference_steps=6, callback_on_step_end=stop)
    assert steps == [0, 1]
    steps.clear()
    edit(pipe, num_inference_steps=3)
    assert not pipe.interrupt


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = sd_pipeline(scheduler=diffusers.HeunDiscreteScheduler(**SD_SCHEDULE))
    pipe.set_progress_bar_config(disable=False)
    edit(pipe, num_inference_steps=4)
    assert "4/4" in capsys.readouterr().err


@pytest.mark.parametrize("name", [e.name for e in diffusers.schedulers.KarrasDiffusionSchedulers])
def test_all_common_schedulers_run(name: str) -> None:
    scheduler = getattr(diffusers, name)
    if not hasattr(scheduler, "from_config"):
        pytest.skip(f"{name} needs a package that is not installed")
    pipe = sd_pipeline()
    try:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    except ImportError as error:
        pytest.skip(str(error))
    result = edit(pipe, num_inference_steps=5)  # PNDM can't do with fewer
    assert result.isfinite().all()
    assert distance(result, edit(pipe, "red", num_inference_steps=5)) > CLOSE


@pytest.mark.parametrize("spacing", ["use_karras_sigmas", "use_exponential_sigmas"])
def test_karras_and_exponential_sigmas(spacing: str) -> None:
    pipe = sd_pipeline()
    pipe.scheduler = diffusers.EulerDiscreteScheduler(**SD_SCHEDULE, **{spacing: True})
    assert distance(edit(pipe), edit(sd_pipeline(scheduler=diffusers.EulerDiscreteScheduler(**SD_SCHEDULE)))) > CLOSE


def test_custom_timesteps_and_sigmas() -> None:
    pipe = sd_pipeline(scheduler=diffusers.EulerDiscreteScheduler(**SD_SCHEDULE))
    pipe.scheduler.set_timesteps(3)
    want = edit(pipe)
    pipe.scheduler.set_timesteps(3)
    with counted_samples(pipe) as counts:
        assert distance(edit(pipe, sigmas=pipe.scheduler.sigmas.tolist()), want) < 1e-3
        assert edit(pipe, timesteps=[900, 500, 200, 10]).isfinite().all()
    assert len(counts) == 7
    with pytest.raises(ValueError, match="Only one of"):
        edit(pipe, timesteps=[900], sigmas=[3.0])
    pipe.scheduler = diffusers.PNDMScheduler(**SD_SCHEDULE)
    with pytest.raises(ValueError, match="does not support custom"):
        edit(pipe, timesteps=[900, 1])


def test_steps_may_be_numpy_s() -> None:
    pipe = sd_pipeline()
    assert torch.equal(edit(pipe, num_inference_steps=np.int64(2)), edit(pipe, num_inference_steps=2))


def test_sdxl_s_watermark_is_applied() -> None:
    class Negative:
        def apply_watermark(self, images: torch.Tensor) -> torch.Tensor:
            return -images

    pipe = sdxl_pipeline(add_watermarker=False)
    plain = edit(pipe)
    pipe.watermark = Negative()
    assert distance(edit(pipe), 1 - plain) < CLOSE


@both
def test_vae_slicing_and_tiling(make) -> None:
    pipe = make()
    images = [picture(1), picture(2)]
    generators = {"generator": noise()}
    want = edit(pipe, "red", images, **generators)
    pipe.vae.enable_slicing()
    assert distance(edit(pipe, "red", images, generator=noise()), want) < CLOSE
    pipe.vae.enable_tiling()
    pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 32, 8
    tiled = edit(pipe, "red", images, generator=noise())
    assert tiled.shape == want.shape
    assert tiled.isfinite().all()


@both
def test_freeu(make) -> None:
    pipe = make()
    plain = edit(pipe)
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    assert distance(edit(pipe), plain) > CLOSE
    pipe.disable_freeu()
    assert distance(edit(pipe), plain) < CLOSE


@both
def test_fused_qkv(make) -> None:
    pipe = make()
    plain = edit(pipe)
    pipe.fuse_qkv_projections()
    assert distance(edit(pipe), plain) < CLOSE
    pipe.unfuse_qkv_projections()
    assert distance(edit(pipe), plain) < CLOSE


@both
def test_attention_slicing(make) -> None:
    pipe = make()
    plain = edit(pipe)
    pipe.enable_attention_slicing()
    assert distance(edit(pipe), plain) < 1e-3


@both
def test_layerwise_casting(make) -> None:
    pipe = make()
    plain = edit(pipe)
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert next(p for p in pipe.unet.parameters() if p.ndim == 4).dtype == torch.float8_e4m3fn
    result = edit(pipe)
    assert result.isfinite().all()
    assert distance(result, plain) < 0.5


@both
@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_group_offload(make, kind: str) -> None:
    """The hooks alone: without a GPU the groups travel from the CPU to the CPU."""
    pipe = make()
    plain = edit(pipe)
    settings = {"onload_device": torch.device("cpu"), "offload_type": kind}
    pipe.unet.enable_group_offload(**settings, **({"num_blocks_per_group": 1} if kind == "block_level" else {}))
    pipe.vae.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
    assert distance(edit(pipe), plain) < CLOSE


@both
def test_weights_that_are_loaded_layer_by_layer(make, tmp_path: Path) -> None:
    """The hooks of sequential offload, with the disk in the CPU's place and the CPU in the GPU's."""
    pipe = make()
    image = picture(width=40, height=24)
    mask = picture(3, 40, 24)
    plain = edit(pipe, image=image, mask_image=mask)
    for name in ("unet", "vae", "text_encoder"):
        disk_offload(getattr(pipe, name), tmp_path / name, execution_device=torch.device("cpu"), offload_buffers=True)
    assert next(pipe.unet.parameters()).device.type == "meta"
    assert distance(edit(pipe, image=image, mask_image=mask), plain) < CLOSE


def test_model_offload_visits_the_models_in_order() -> None:
    pipe = sd_pipeline()
    order = pipe.model_cpu_offload_seq.split("->")
    assert set(order) | set(pipe._exclude_from_cpu_offload) >= {
        name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)
    }
    assert order.index("text_encoder") < order.index("unet")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@both
def test_on_a_gpu(make) -> None:
    plain = edit(make())
    assert distance(edit(make().to("cuda")).cpu(), plain) < 0.05
    for save in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        pipe = make()
        getattr(pipe, save)()
        assert distance(edit(pipe).cpu(), plain) < 0.05
        assert distance(edit(pipe).cpu(), plain) < 0.05  # the hooks are back for the second run
