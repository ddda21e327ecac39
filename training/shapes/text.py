"""The text side of the shapes world: a CLIP tokenizer whose words are single tokens, and a small CLIP text encoder."""

import random
from collections import Counter
from functools import cache
from itertools import pairwise

import torch
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .edits import KINDS, random_edit

MAX_LENGTH = 40  # the longest caption has 31 words and two commas


@cache
def words() -> tuple[str, ...]:
    """Every word of captions and instructions, and the comma."""
    rng = random.Random("words")
    edits = [random_edit(rng, kind, held_out) for kind in KINDS for held_out in (False, True) for _ in range(500)]
    texts = [text for edit in edits for text in (edit.original_prompt, edit.edit_prompt)]
    return tuple(sorted({word for text in texts for word in text.replace(",", " ,").split()}))


def merges() -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent first, that make each of the world's words one piece.

    The same on every machine and in every process, which `tokenizers`' own trainer does not promise.
    """
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words()]
    learnt: list[tuple[str, str]] = []
    while any(len(pieces) > 1 for pieces in spelled):
        counts = Counter(pair for pieces in spelled for pair in pairwise(pieces))
        one, two = min(counts, key=lambda pair: (-counts[pair], pair))
        learnt.append((one, two))
        for pieces in spelled:
            for at in range(len(pieces) - 1, 0, -1):
                if pieces[at - 1 : at + 1] == [one, two]:
                    pieces[at - 1 : at + 1] = [one + two]
    return learnt


@cache
def new_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer (byte-level BPE, lower case) that has each of the world's words as one token.

    Any other text is split into smaller pieces, down to bytes, as CLIP's own does.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges())]
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges(), model_max_length=MAX_LENGTH)


def new_text_encoder() -> CLIPTextModel:
    """An untrained text encoder for `new_tokenizer`: two layers of 128 channels.

    Its words start far apart, not within CLIP's 0.02, or what the layers add drowns them: then a word of little use at
    first, as those for places are, is merged with the others before the U-Net has learnt to look for it.
    """
    tokenizer = new_tokenizer()
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            projection_dim=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    torch.nn.init.normal_(encoder.get_input_embeddings().weight, std=1.0)
    return encoder
