"""Texts to embeddings, for the one text encoder of SD or the two of SDXL."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from torch import Tensor

from .distilled import is_distilled

logger = logging.getLogger(__name__)


class Text(NamedTuple):
    """What the U-Net reads of N texts.

    embeds: [N, tokens, width], for cross-attention
    pooled: [N, width], added to SDXL's time embedding; None for SD
    """

    embeds: Tensor
    pooled: Tensor | None


class TextMixin:
    """The text side of a diffusers pipeline with one text encoder (SD) or two (SDXL)."""

    is_xl: bool
    config: Any
    unet: Any
    tokenizer: Any
    tokenizer_2: Any
    text_encoder: Any
    text_encoder_2: Any
    maybe_convert_prompt: Callable[[list[str], Any], list[str]]  # textual inversion's words of many vectors
    _execution_device: torch.device

    def encode_prompt(
        self,
        prompt: str | list[str],
        prompt_2: str | list[str] | None = None,
        clip_skip: int | None = None,
        lora_scale: float | None = None,
        device: torch.device | None = None,
    ) -> Text:
        """Encode texts to (embeds [N,tokens,width], pooled [N,width] or None), as `prompt_embeds` takes them.

        prompt_2: what SDXL's second encoder reads, if not the same; device: None = the pipeline's.
        Raises ValueError where a text encoder or its tokenizer is missing, and for what they can't read.
        """
        if prompt_2 is not None and not self.is_xl:
            raise ValueError("prompt_2 is for SDXL's second text encoder, and this checkpoint has only one.")
        readers = [
            (text, tokenizer, encoder)
            for text, tokenizer, encoder in (
                (prompt, self.tokenizer, self.text_encoder),
                (prompt if prompt_2 is None else prompt_2, self.tokenizer_2, self.text_encoder_2),
            )
            if encoder is not None
        ]
        if not readers:
            raise ValueError(
                "This pipeline has no text encoder to read a text: pass prompt_embeds, and negative_prompt_embeds for "
                "the empty text."
            )
        if any(tokenizer is None for _, tokenizer, _ in readers):
            raise ValueError("A text encoder has no tokenizer: give the pipeline both, or pass prompt_embeds.")
        if self.is_xl and len(readers) == 1:
            missing = "text_encoder" if self.text_encoder is None else "text_encoder_2"
            raise ValueError(f"SDXL's {missing} is not there: pass prompt_embeds and pooled_prompt_embeds.")
        texts = same_count([[text] if isinstance(text, str) else text for text, _, _ in readers])
        texts = [
            self.maybe_convert_prompt(each, tokenizer) for each, (_, tokenizer, _) in zip(texts, readers, strict=True)
        ]
        _, tokenizers, encoders = zip(*readers, strict=True)
        device = device or self._execution_device
        if lora_scale is None:
            return encode_text(texts, tokenizers, encoders, device, xl=self.is_xl, clip_skip=clip_skip)
        for encoder in encoders:
            scale_lora_layers(encoder, lora_scale)
        try:
            return self.encode_prompt(prompt, prompt_2, clip_skip, device=device)
        finally:
            for encoder in encoders:
                unscale_lora_layers(encoder, lora_scale)

    def encode_branches(self, call: Mapping[str, Any], device: torch.device) -> dict[str, Text]:
        """Each branch's text: the instruction, and elsewhere ∅, or the negative text in the branches named for it. A
        distilled U-Net has one branch.

        call: the arguments of the pipeline's `__call__`
        """
        lora_scale = (call["cross_attention_kwargs"] or {}).get("scale")
        how = {"clip_skip": call["clip_skip"], "lora_scale": lora_scale, "device": device}
        full = self._given_or_encoded(call, "", how)
        assert full is not None  # the caller has checked
        if is_distilled(self.unet):
            return {"full": full}
        negative = self._given_or_encoded(call, "negative_", how)
        if negative is not None and len(negative.embeds) not in (1, len(full.embeds)):
            raise ValueError(f"There are {len(negative.embeds)} negative texts for {len(full.embeds)} instructions.")
        texts, empty = {"full": full}, None
        for branch in ("image", "uncond"):
            if negative is not None and branch in call["negative_prompt_branches"]:
                texts[branch] = negative
            else:
                texts[branch] = empty = empty or self._empty(full, how)
            if texts[branch].embeds.shape[1] != full.embeds.shape[1]:
                raise ValueError(
                    f"The instruction's embeddings have {full.embeds.shape[1]} tokens and those of the {branch} branch "
                    f"{texts[branch].embeds.shape[1]}: give negative_prompt_embeds of as many."
                )
        return texts

    def _given_or_encoded(self, call: Mapping[str, Any], prefix: str, how: dict[str, Any]) -> Text | None:
        text, text_2 = call[f"{prefix}prompt"], call[f"{prefix}prompt_2"]
        embeds, pooled = call[f"{prefix}prompt_embeds"], call[f"{prefix}pooled_prompt_embeds"]
        if embeds is None and text is None and text_2 is None:
            return None
        if embeds is None:
            result = self.encode_prompt("" if text is None else text, text_2, **how)
        elif text_2 is not None:
            raise ValueError(f"Give {prefix}prompt_2 or {prefix}prompt_embeds, not both.")
        elif self.is_xl and pooled is None:
            raise ValueError(f"SDXL needs {prefix}pooled_prompt_embeds beside {prefix}prompt_embeds.")
        else:
            result = Text(embeds, pooled if self.is_xl else None)
        check_embeds(result, prefix, self.unet.config)
        return result

    def _empty(self, full: Text, how: dict[str, Any]) -> Text:
        """∅: the encoding of "", or zeros where an SDXL checkpoint was trained with them."""
        if self.is_xl and self.config.force_zeros_for_empty_prompt:
            assert full.pooled is not None
            return Text(torch.zeros_like(full.embeds[:1]), torch.zeros_like(full.pooled[:1]))
        return self.encode_prompt("", **how)


def same_count(texts: list[list[str]]) -> list[list[str]]:
    """The texts of each reader, a single one serving all that another has. Raises ValueError where they don't pair."""
    count = max(map(len, texts))
    if any(len(each) not in (1, count) for each in texts):
        raise ValueError(f"There are {' and '.join(str(len(each)) for each in texts)} texts for the two text encoders.")
    return [each * count if len(each) == 1 else each for each in texts]


def check_embeds(text: Text, prefix: str, unet_config: Any) -> None:
    """Raise ValueError or TypeError unless the U-Net can read a text's embeddings; prefix: "" or "negative_"."""
    for name, tensor in zip(("prompt_embeds", "pooled_prompt_embeds"), text, strict=True):
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"{prefix}{name} is a tensor, not {type(tensor).__name__}.")
    shape, width = tuple(text.embeds.shape), unet_config.encoder_hid_dim or unet_config.cross_attention_dim
    if len(shape) != 3 or shape[-1] != width or 0 in shape:
        raise ValueError(
            f"The text's embeddings ({prefix}prompt_embeds) are (texts, tokens, {width}) for this U-Net, not {shape}."
        )
    if text.pooled is not None:
        # What SDXL's time embedding reads is the pooled text and six embedded numbers.
        width = unet_config.projection_class_embeddings_input_dim - 6 * unet_config.addition_time_embed_dim
        if tuple(text.pooled.shape) != (shape[0], width):
            raise ValueError(
                f"The pooled embeddings ({prefix}pooled_prompt_embeds) are {(shape[0], width)} for this U-Net and "
                f"{prefix}prompt_embeds of shape {shape}, not {tuple(text.pooled.shape)}."
            )


def check_text(tokenizer: Any, text_encoder: Any) -> None:
    """Raise ValueError for a tokenizer that is incomplete, or of another checkpoint than the text encoder.

    For construction only: textual inversion adds words to both later. Either may be None.
    """
    if tokenizer is None or text_encoder is None:
        return
    words, length = len(tokenizer), tokenizer.model_max_length
    known, positions = text_encoder.config.vocab_size, text_encoder.config.max_position_embeddings
    if words <= len(tokenizer.all_special_ids):
        problem = "knows no words: its vocabulary is missing"
    elif words > known:
        problem = f"knows {words} words and its text encoder {known}: they are not of one checkpoint"
    elif length > positions:
        problem = f"gives up to {length} tokens and its text encoder reads {positions}: its settings are missing"
    else:
        return
    raise ValueError(f"The tokenizer {problem}; load the whole tokenizer of the text encoder's checkpoint.")


def encode_text(
    texts: Sequence[list[str]],
    tokenizers: Sequence[Any],
    text_encoders: Sequence[Any],
    device: torch.device,
    *,
    xl: bool,
    clip_skip: int | None = None,
) -> Text:
    """Encode N texts; `texts` holds the same N for each of the encoders, whose embeddings are joined by width.

    SD reads the last layer's output, normalised; SDXL the last but one's (Podell et al. 2023, arXiv 2307.01952, 2.1).
    clip_skip takes the output that many layers earlier. What a tokenizer can't hold is cut off, with a warning that
    names it.
    """
    layers = min(text_encoder.config.num_hidden_layers for text_encoder in text_encoders)
    if clip_skip is not None and not (isinstance(clip_skip, int) and 0 <= clip_skip < layers):
        raise ValueError(f"clip_skip is a number of layers, 0 to {layers - 1} for this checkpoint, not {clip_skip!r}.")
    embeds, pooled = [], None
    for i, (tokenizer, text_encoder) in enumerate(zip(tokenizers, text_encoders, strict=True)):
        warn_of_truncation([text for text in texts[i] if i == 0 or text not in texts[0]], tokenizer)
        tokens = tokenizer(
            texts[i], padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )
        mask = tokens.attention_mask.to(device) if getattr(text_encoder.config, "use_attention_mask", False) else None
        output = text_encoder(tokens.input_ids.to(device), attention_mask=mask, output_hidden_states=True)
        if xl:
            embeds.append(output.hidden_states[-2 - (clip_skip or 0)])
            pooled = output[0] if output[0].ndim == 2 else pooled
        elif clip_skip is None:
            embeds.append(output[0])
        else:
            model = getattr(text_encoder, "text_model", text_encoder)  # transformers 5 has no inner model any more
            embeds.append(model.final_layer_norm(output.hidden_states[-1 - clip_skip]))
    return Text(torch.cat(embeds, dim=-1), pooled)


def warn_of_truncation(texts: list[str], tokenizer: Any) -> None:
    """Name what the tokenizer will cut off, so that nobody wonders why half an instruction is ignored."""
    limit = tokenizer.model_max_length
    for text in dict.fromkeys(texts):
        ids = tokenizer(text, verbose=False).input_ids
        if len(ids) > limit:
            dropped = tokenizer.decode(ids[limit - 1 : -1])
            logger.warning(
                "The text encoder reads %d tokens and the text has %d: %r is ignored.", limit - 2, len(ids) - 2, dropped
            )
