"""Inversion and Prompt-to-Prompt on a picture that is there."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate_data import samples
from ip2p.training.evaluate.inversion import InvertedP2P, Sampler, encode
from ip2p.training.pairs.checkpoint import Base, load_base
from ip2p.training.pairs.samplers import denoise, euler_step, schedule
from pairs_models import base_pipeline, xl_pipeline
from PIL import Image
from tiny_models import picture


def method(pipe: Any, **given: Any) -> InvertedP2P:
    return InvertedP2P("tiny", **{"steps": 12, "guidance_scale": 3.0, **given}, loaded=Base(pipe))


def apart(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.array(one).astype(float) - np.array(other)).mean() / 255)


def test_the_way_back_leads_forth_again() -> None:
    base, sample = load_base("shapes"), samples(1)[0]
    sigmas, timesteps = schedule(base.alphas_cumprod, 40, "uniform")
    sampler = Sampler(base, sigmas.double(), timesteps, 64)
    texts = base.encode(["", sample.original_prompt, sample.edited_prompt])
    latents = encode(base, sample.picture())
    way = sampler.invert(latents, texts)
    assert len(way) == 41 and torch.equal(way[-1], latents.double())
    assert float(way[0].std() / sampler.sigmas[0]) > 0.3  # about noise, of the highest level
    x = way[0]
    with torch.no_grad():
        for step in range(40):
            out = sampler.unet(x, step, texts.embeds[1:2], texts, [1])
            clean = denoise(x, out, sampler.sigmas[step], base.prediction_type)
            x = euler_step(x, clean, sampler.sigmas[step], sampler.sigmas[step + 1], None)
    assert float((x - way[-1]).abs().mean()) < 0.3 * float(way[-1].std())


def test_fitted_null_texts_bring_the_picture_back_under_guidance() -> None:
    base, sample = load_base("shapes"), samples(1)[0]
    with torch.no_grad():
        reached = base.decode(encode(base, sample.picture()))[0].clamp(-1, 1).add(1).mul(127.5).byte()
    nearest = Image.fromarray(reached.permute(1, 2, 0).numpy())
    errors = {}
    for inversion in ("ddim", "null_text"):
        method = InvertedP2P("shapes", inversion, 20, 4.0, loaded=base)  # type: ignore[arg-type]
        source, _ = method.redrawn(sample.picture(), sample.original_prompt, sample.edited_prompt, 0.5)
        errors[inversion] = apart(source, nearest)
    assert errors["null_text"] < 0.6 * errors["ddim"]


def test_the_null_text_is_fitted_in_whole_precision_whatever_the_rest_is() -> None:
    assert {
        inversion: InvertedP2P("shapes", inversion, 2, dtype=torch.float16).base().unet.dtype  # type: ignore[arg-type]
        for inversion in ("ddim", "null_text")
    } == {"ddim": torch.float16, "null_text": torch.float32}


def test_with_sdxl_the_null_text_is_fitted_too() -> None:
    source, target = method(xl_pipeline(), steps=3, inner_steps=2).redrawn(picture(2, 64, 64), "a cat", "a dog", 0.5)
    assert source.size == target.size == (64, 64) and apart(source, target) > 1e-3


def test_the_same_caption_gives_the_same_picture_and_another_another() -> None:
    source, target = method(base_pipeline()).redrawn(picture(2, 64, 64), "a cat", "a cat", 0.5)
    assert apart(source, target) < 1e-3
    source, target = method(base_pipeline()).redrawn(picture(2, 64, 64), "a cat", "a dog", 0.5)
    assert apart(source, target) > 1e-3


def test_more_of_the_pictures_own_attention_keeps_more_of_it() -> None:
    less, more = (method(base_pipeline(), cross_replace_steps=0.0).redrawn(picture(2, 64, 64), "a cat", "a dog", share)
                  for share in (0.0, 1.0))  # fmt: skip
    assert apart(*more) < apart(*less)


def test_the_unet_is_left_as_it_was_and_sizes_are_kept(tmp_path: Path) -> None:
    pipe = base_pipeline()
    processors = dict(pipe.unet.attn_processors)
    sample = samples(1)[0]
    [made] = method(pipe, steps=3).edit([sample], [picture(3, 50, 33)], {"self_replace_steps": 0.5}, [0])
    assert made.size == (50, 33)
    assert {name: type(each) for name, each in pipe.unet.attn_processors.items()} == {
        name: type(each) for name, each in processors.items()
    }
