"""Texts and ready embeddings: what serves what, and what does not fit is told."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ip2p import InstructPix2PixPipeline
from tiny_models import TEXT_WIDTH, TEXT_WIDTH_2, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4
XL_WIDTH = TEXT_WIDTH + TEXT_WIDTH_2
XL = {"pooled_prompt_embeds": torch.zeros(1, TEXT_WIDTH_2)}


@pytest.mark.parametrize(
    ("make", "parts", "sentence"),
    [
        (sd_pipeline, {"tokenizer": None}, "has no tokenizer"),
        (sd_pipeline, {"text_encoder": None}, "no text encoder"),
        (sdxl_pipeline, {"text_encoder_2": None}, "second text encoder is not there"),
        (sdxl_pipeline, {"text_encoder": None}, rf"\[texts, tokens, {XL_WIDTH}\]"),
    ],
)
def test_a_text_that_cannot_be_read_is_told(make: Any, parts: dict[str, Any], sentence: str) -> None:
    """The parts may be left out, as diffusers allows, where only ready embeddings are used."""
    with pytest.raises(ValueError, match=sentence):
        edit(make(**parts))


@pytest.mark.parametrize(
    ("make", "call", "sentence"),
    [
        (sd_pipeline, {"clip_skip": 3}, "clip_skip is a number of layers, 0 to 2"),
        (sd_pipeline, {"clip_skip": -1}, "clip_skip is a number of layers"),
        (sdxl_pipeline, {"clip_skip": 9}, "clip_skip is a number of layers"),
        (sdxl_pipeline, {"prompt": ["a", "b", "c"], "prompt_2": ["a", "b"]}, "3 and 2 texts for the two text encoders"),
        (sd_pipeline, {"prompt": None, "prompt_embeds": torch.zeros(77, 32)}, r"\[texts, tokens, 32\]"),
        (sd_pipeline, {"prompt": None, "prompt_embeds": torch.zeros(1, 77, 31)}, r"\[texts, tokens, 32\]"),
        (
            sd_pipeline,
            {"prompt": None, "prompt_embeds": torch.zeros(1, 70, 32)},
            "70 tokens and the negative text",
        ),
        (sd_pipeline, {"negative_prompt_embeds": torch.zeros(1, 70, 32)}, "77 tokens and the negative text"),
        (sdxl_pipeline, {"prompt": None, "prompt_embeds": torch.zeros(2, 77, XL_WIDTH), **XL}, "Pooled embeddings are"),
    ],
)
def test_texts_that_do_not_fit_are_told(make: Any, call: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        edit(make(), **{"prompt": "red", **call})
    assert "\n" not in str(error.value)


def test_without_a_text_encoder_the_empty_text_is_asked_for_too() -> None:
    pipe = sd_pipeline()
    embeds = {"prompt_embeds": pipe.encode_prompt("red").embeds}
    blind = sd_pipeline(text_encoder=None, tokenizer=None)
    with pytest.raises(ValueError, match="negative_prompt_embeds"):
        edit(blind, None, **embeds)
    both = {**embeds, "negative_prompt_embeds": pipe.encode_prompt("").embeds}
    assert distance(edit(blind, None, **both), edit(pipe, "red")) < CLOSE


def test_one_text_for_the_second_encoder_serves_all() -> None:
    pipe = sdxl_pipeline()
    images, generators = [picture(1), picture(2)], [noise(1), noise(2)]
    batch = edit(pipe, ["red", "blue"], images, prompt_2="winter", generator=generators)
    alone = edit(pipe, "blue", images[1], prompt_2="winter", generator=noise(2))
    assert distance(batch[1], alone[0]) < CLOSE


def test_a_negative_text_for_the_second_encoder_alone_counts() -> None:
    pipe = sdxl_pipeline()
    result = edit(pipe, "red", negative_prompt_2="winter")
    assert distance(result, edit(pipe, "red")) > CLOSE
    assert distance(result, edit(pipe, "red", negative_prompt="", negative_prompt_2="winter")) < CLOSE


def test_what_the_second_text_encoder_cannot_read_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        edit(sdxl_pipeline(), "red", prompt_2="x " * 75 + "theremainder")
    assert "theremainder" in caplog.text


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_without_its_words_is_refused(name: str, tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path)
    (tmp_path / "tokenizer" / name).unlink()
    with pytest.raises(ValueError, match="tokenizer is incomplete"):
        InstructPix2PixPipeline.from_pretrained(tmp_path)
