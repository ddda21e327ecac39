import random

import torch
from ip2p.training.shapes.edits import KINDS, random_edit
from ip2p.training.shapes.scenes import CELLS
from ip2p.training.shapes.text import MAX_LENGTH, new_text_encoder, new_tokenizer
from transformers import CLIPTokenizer


def test_every_word_of_captions_and_instructions_is_one_token():
    rng, tokenizer = random.Random(0), new_tokenizer()
    for kind in KINDS:
        for _ in range(50):
            edit = random_edit(rng, kind)
            for text in (edit.original_prompt, edit.edit_prompt, edit.edited_prompt):
                assert len(tokenizer.tokenize(text)) == len(text.replace(",", " ,").split())
                assert len(tokenizer(text).input_ids) <= MAX_LENGTH


def test_any_other_text_is_tokenized_without_an_unknown_token():
    tokenizer = new_tokenizer()
    ids = tokenizer("Füge 3 blaue Würfel hinzu! 빨간 원", add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids


def test_tokens_are_the_same_in_every_process():
    """Trained weights and the processes of one training rest on it."""
    ids = new_tokenizer()("make the large red circle blue").input_ids
    assert ids == [712, 668, 703, 542, 687, 618, 603, 713]


def test_tokenizer_is_the_same_after_saving(tmp_path):
    new_tokenizer().save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    text = "Make the red circle blue, please"
    assert loaded(text).input_ids == new_tokenizer()(text).input_ids
    assert loaded.model_max_length == MAX_LENGTH


def test_text_encoder_knows_every_token():
    assert new_text_encoder().config.vocab_size == len(new_tokenizer())


@torch.no_grad()
def test_an_untrained_encoder_tells_places_apart():
    torch.manual_seed(0)
    encoder, tokenizer = new_text_encoder(), new_tokenizer()
    texts = [f"a large red triangle at the {place} on a cyan background" for place in CELLS]
    tokens = tokenizer(texts, padding="max_length", max_length=MAX_LENGTH, return_tensors="pt").input_ids
    encoded = encoder(tokens).last_hidden_state
    apart = (encoded - encoded.mean(dim=0)).norm(dim=-1).amax(dim=1)
    assert (apart > 0.4 * encoded.norm(dim=-1).mean()).all()
