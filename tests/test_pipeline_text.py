"""What the text side reads: which encoders and tokenizers, texts for one or two of them, and ready embeddings."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ip2p import InstructPix2PixPipeline
from ip2p.ip2p_pipeline.text import check_text
from tiny_models import (
    TEXT_WIDTH,
    TEXT_WIDTH_2,
    distance,
    edit,
    noise,
    picture,
    sd_pipeline,
    sdxl_pipeline,
    text_config,
)
from transformers import CLIPTextModel, CLIPTokenizer

CLOSE = 1e-4
LONG = "x " * 75


def embeds_of(pipe: InstructPix2PixPipeline, prefix: str, *prompts: Any) -> dict[str, torch.Tensor]:
    """Encoded texts as the call takes them."""
    embeds, pooled = pipe.encode_prompt(*prompts)
    return {f"{prefix}prompt_embeds": embeds} | ({} if pooled is None else {f"{prefix}pooled_prompt_embeds": pooled})


@pytest.mark.parametrize(
    ("make", "parts", "sentence"),
    [
        (sd_pipeline, {"tokenizer": None}, "has no tokenizer"),
        (sd_pipeline, {"text_encoder": None}, "no text encoder"),
        (sdxl_pipeline, {"tokenizer_2": None}, "has no tokenizer"),
        (sdxl_pipeline, {"text_encoder_2": None}, "SDXL's text_encoder_2 is not there"),
        (sdxl_pipeline, {"text_encoder": None}, "SDXL's text_encoder is not there"),
        (sd_pipeline, {"text_encoder": CLIPTextModel(text_config(48))}, r"are \(texts, tokens, 32\) for this U-Net"),
    ],
)
def test_a_text_that_cannot_be_read_is_told(make, parts: dict[str, Any], sentence: str) -> None:
    """The parts may be left out, as diffusers allows, where only ready embeddings are used."""
    with pytest.raises(ValueError, match=sentence):
        edit(make(**parts))


@pytest.mark.parametrize(
    ("words", "vocab_size", "length", "sentence"),
    [
        (["<|startoftext|>", "<|endoftext|>"], 514, 77, "knows no words"),
        (["<|startoftext|>", "<|endoftext|>", "a", "b"], 3, 77, "knows 4 words and its text encoder 3"),
        (["<|startoftext|>", "<|endoftext|>", "a", "b"], 514, None, "gives up to 1000"),
    ],
)
def test_a_tokenizer_that_is_not_the_text_encoders_is_told(
    words: list[str], vocab_size: int, length: int | None, sentence: str
) -> None:
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], **({"model_max_length": length} if length else {}))
    text_encoder = CLIPTextModel(text_config(vocab_size=vocab_size))
    with pytest.raises(ValueError, match=f"^The tokenizer {sentence}"):
        check_text(tokenizer, text_encoder)
    check_text(None, text_encoder)
    check_text(tokenizer, None)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_an_incomplete_tokenizers_folder_is_told(name: str, tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path)
    (tmp_path / "tokenizer" / name).unlink()
    with pytest.raises(ValueError, match="tokenizer is incomplete"):
        InstructPix2PixPipeline.from_pretrained(tmp_path)


def test_words_of_textual_inversions_do_not_make_a_tokenizer_wrong(tmp_path: Path) -> None:
    pipe = sd_pipeline()
    pipe.load_textual_inversion({"<style>": torch.randn(3, TEXT_WIDTH)})
    pipe.save_pretrained(tmp_path)
    again = InstructPix2PixPipeline.from_pretrained(tmp_path)
    assert again.tokenizer("<style>").input_ids[1:-1] == [514]
    check_text(again.tokenizer, again.text_encoder)
    check_text(pipe.tokenizer, pipe.text_encoder)
    pipe.unload_textual_inversion()
    check_text(pipe.tokenizer, pipe.text_encoder)


@pytest.mark.parametrize("missing", ["text_encoder", "text_encoder_2"])
def test_sdxl_reads_texts_with_both_of_its_encoders(missing: str) -> None:
    whole = sdxl_pipeline()
    given = embeds_of(whole, "", "make it winter") | embeds_of(whole, "negative_", "red")
    pipe = sdxl_pipeline(**{missing: None})
    with pytest.raises(ValueError, match=f"{missing} is not there: pass prompt_embeds"):
        edit(pipe)
    assert distance(edit(pipe, None, **given), edit(whole, negative_prompt="red")) < CLOSE


def test_without_a_text_encoder_the_empty_text_is_given_too() -> None:
    whole, pipe = sd_pipeline(), sd_pipeline(text_encoder=None, tokenizer=None)
    given = embeds_of(whole, "", "make it winter")
    with pytest.raises(ValueError, match="negative_prompt_embeds for the empty text"):
        edit(pipe, None, **given)
    with pytest.raises(ValueError, match="negative_prompt_embeds for the empty text"):
        edit(pipe, None, **given, negative_prompt="red")
    assert distance(edit(pipe, None, **given, **embeds_of(whole, "negative_", "")), edit(whole)) < CLOSE


def test_sdxls_empty_text_needs_no_text_encoder() -> None:
    """It is zeros in released checkpoints."""
    whole = sdxl_pipeline()
    pipe = sdxl_pipeline(text_encoder=None, text_encoder_2=None)
    assert distance(edit(pipe, None, **embeds_of(whole, "", "make it winter")), edit(whole)) < CLOSE


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_clip_skip_leaves_out_as_many_layers_as_there_are(make) -> None:
    pipe = make()
    assert distance(edit(pipe, clip_skip=0), edit(pipe)) < CLOSE
    assert distance(edit(pipe, clip_skip=2), edit(pipe)) > CLOSE
    for value in (3, 9, -1, 1.5):
        with pytest.raises(ValueError, match=f"clip_skip is a number of layers, 0 to 2 .*not {value}"):
            edit(pipe, clip_skip=value)


def test_one_text_of_either_encoder_serves_all_of_the_other() -> None:
    pipe = sdxl_pipeline()

    def both(prompt: Any, prompt_2: Any) -> torch.Tensor:
        return edit(pipe, prompt, [picture(), picture()], prompt_2=prompt_2, generator=[noise(), noise()])

    want = torch.cat([edit(pipe, "a", prompt_2="c"), edit(pipe, "b", prompt_2="c")])
    assert distance(both(["a", "b"], "c"), want) < CLOSE
    assert distance(both(["a", "b"], ["c"]), want) < CLOSE
    want = torch.cat([edit(pipe, "c", prompt_2="a"), edit(pipe, "c", prompt_2="b")])
    assert distance(both("c", ["a", "b"]), want) < CLOSE
    with pytest.raises(ValueError, match="2 and 3 texts for the two text encoders"):
        both(["a", "b"], ["a", "b", "c"])


def test_a_negative_text_for_sdxls_second_encoder_alone_counts() -> None:
    pipe = sdxl_pipeline(force_zeros_for_empty_prompt=False)
    alone = edit(pipe, negative_prompt_2="red")
    assert distance(alone, edit(pipe)) > CLOSE
    assert distance(alone, edit(pipe, negative_prompt="", negative_prompt_2="red")) == 0


@pytest.mark.parametrize("prefix", ["", "negative_"])
def test_second_texts_that_nothing_reads_are_told(prefix: str) -> None:
    with pytest.raises(ValueError, match="prompt_2 is for SDXL's second text encoder"):
        edit(sd_pipeline(), **{f"{prefix}prompt_2": "red"})
    pipe = sdxl_pipeline()
    prompt = {"prompt": None if prefix == "" else "make it winter"}
    with pytest.raises(ValueError, match=f"Give {prefix}prompt_2 or {prefix}prompt_embeds"):
        edit(pipe, **prompt, **{f"{prefix}prompt_2": "red"}, **embeds_of(pipe, prefix, "red"))


def test_what_the_second_encoder_cannot_read_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    pipe = sdxl_pipeline()

    def told(*prompts: Any) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            pipe.encode_prompt(*prompts)
        return [record.getMessage().split(": ")[1] for record in caplog.records if "is ignored" in record.getMessage()]

    assert told("red", LONG + "second") == ["'second' is ignored."]
    assert told([LONG + "same"] * 2, LONG + "same") == ["'same' is ignored."]
    assert told([LONG + "first", "red"], ["red", LONG + "second"]) == ["'first' is ignored.", "'second' is ignored."]


WIDTH = TEXT_WIDTH + TEXT_WIDTH_2


@pytest.mark.parametrize("prefix", ["", "negative_"])
@pytest.mark.parametrize(
    ("make", "shapes", "sentence"),
    [
        (sd_pipeline, [(77, TEXT_WIDTH)], r"\(texts, tokens, 32\) for this U-Net, not \(77, 32\)"),
        (sd_pipeline, [(1, 77, 7)], r"\(texts, tokens, 32\) for this U-Net, not \(1, 77, 7\)"),
        (sd_pipeline, [(0, 77, TEXT_WIDTH)], r"not \(0, 77, 32\)"),
        (
            sd_pipeline,
            [(1, 5, TEXT_WIDTH)],
            r"\d+ tokens and those of the image branch \d+: give negative_prompt_embeds",
        ),
        (sdxl_pipeline, [(1, 77, WIDTH), None], "SDXL needs {prefix}pooled_prompt_embeds"),
        (
            sdxl_pipeline,
            [(1, 77, TEXT_WIDTH), (1, TEXT_WIDTH_2)],
            r"\({prefix}prompt_embeds\) are \(texts, tokens, 80\)",
        ),
        (
            sdxl_pipeline,
            [(2, 77, WIDTH), (1, TEXT_WIDTH_2)],
            r"{prefix}pooled_prompt_embeds\) are \(2, 48\).*not \(1, 48",
        ),
        (
            sdxl_pipeline,
            [(1, 77, WIDTH), (2, TEXT_WIDTH_2)],
            r"{prefix}pooled_prompt_embeds\) are \(1, 48\).*not \(2, 48",
        ),
        (sdxl_pipeline, [(1, 77, WIDTH), (1, 7)], r"{prefix}pooled_prompt_embeds\) are \(1, 48\).*not \(1, 7"),
    ],
)
def test_embeddings_that_the_unet_cannot_read_are_told(make, prefix: str, shapes: list, sentence: str) -> None:
    names = (f"{prefix}prompt_embeds", f"{prefix}pooled_prompt_embeds")
    given = {name: torch.zeros(shape) for name, shape in zip(names, shapes, strict=False) if shape}
    pipe = make(force_zeros_for_empty_prompt=False)
    with pytest.raises(ValueError, match=sentence.format(prefix=prefix)) as error:
        edit(pipe, None if prefix == "" else "make it winter", **given)
    assert "\n" not in str(error.value)


def test_embeddings_are_tensors() -> None:
    with pytest.raises(TypeError, match="prompt_embeds is a tensor, not list"):
        edit(sd_pipeline(), None, prompt_embeds=[[0.0]])


def test_embeddings_of_few_tokens_are_read() -> None:
    pipe = sd_pipeline()
    given = {name: torch.randn(1, 5, TEXT_WIDTH) for name in ("prompt_embeds", "negative_prompt_embeds")}
    assert edit(pipe, None, **given).isfinite().all()
