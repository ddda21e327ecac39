import pytest
import torch
from ip2p.training.pairs.cross_attention import align, cross_edit
from ip2p.training.shapes.text import new_tokenizer
from tiny_models import tokenizer

LENGTH = 40


def edit(original, edited, **settings):
    return cross_edit(new_tokenizer(), original, edited, 10, **settings)


def maps(seed):
    return torch.rand(2, 5, LENGTH, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


def test_a_word_in_place_of_a_word_takes_its_map():
    change = edit("a small red circle on white", "a small blue circle on white")
    source, target = maps(0), maps(1)
    assert torch.equal(change(source, target, 0), source)
    assert change.changed[0].nonzero().flatten().tolist() == [3]
    assert change.changed[1].nonzero().flatten().tolist() == [3]


def test_words_that_come_keep_their_own_map_and_the_others_follow():
    change = edit("a red circle on white", "a red circle and a cross on white")
    source, target = maps(0), maps(1)
    edited = change(source, target, 0)
    # start a red circle | and a cross | on white: the source's 4 and 5 are the target's 7 and 8.
    assert torch.equal(edited[..., :4], source[..., :4])
    assert torch.equal(edited[..., 4:7], target[..., 4:7])
    assert torch.equal(edited[..., 7:9], source[..., 4:6])
    assert torch.equal(edited[..., 9:], source[..., 6:37])  # the end, and the padding behind it


def test_words_that_go_leave_the_others_in_place():
    change = edit("a red circle and a cross on white", "a red circle on white")
    edited = change(maps(0), maps(1), 0)
    assert torch.equal(edited[..., 4:6], maps(0)[..., 7:9])
    assert change.changed[0].nonzero().flatten().tolist() == [4, 5, 6]
    assert not change.changed[1].any()


def test_a_word_of_several_tokens_is_shared_out():
    """As Prompt-to-Prompt's own mapper: every pair of the words' tokens at 1 / the target's count."""
    change = cross_edit(tokenizer(), "a cat on", "a horse on", 4)
    mapper = change.mapper
    assert torch.allclose(mapper[2:5, 2:7], torch.full((3, 5), 0.2))  # c a t → h o r s e
    assert mapper[5, 7] == mapper[6, 8] == 1  # o n
    assert mapper[7, 9] == 1  # the end
    assert (mapper[:, 1:9].sum(dim=0)[[0, 6, 7]] == 1).all()
    assert not change.own.any()


def test_the_edit_ends_at_its_share_of_the_steps():
    change = edit("a red circle", "a blue circle", cross_replace_steps=0.5)
    source, target = maps(0), maps(1)
    assert torch.equal(change(source, target, 4), source)
    assert torch.equal(change(source, target, 5), target)


def test_words_may_have_shares_of_their_own():
    change = edit("a red circle", "a blue circle", cross_replace_steps={"default": 1.0, "blue": 0.2})
    edited = change(maps(0), maps(1), 5)
    assert torch.equal(edited[..., 2], maps(1)[..., 2])
    assert torch.equal(edited[..., 3], maps(0)[..., 3])


def test_reweighting_multiplies_a_words_map():
    change = edit("a red circle", "a red circle", weights={"red": 3.0})
    edited = change(maps(0), maps(1), 0)
    assert torch.allclose(edited[..., 2], 3 * maps(0)[..., 2])
    assert torch.equal(edited[..., 3], maps(0)[..., 3])
    heavier = edit("a red circle", "a red circle on white", changed_word_weight=2.0)(maps(0), maps(1), 0)
    assert torch.allclose(heavier[..., 4:6], 2 * maps(1)[..., 4:6])
    assert torch.equal(heavier[..., 3], maps(0)[..., 3])


def test_a_word_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no word 'green'"):
        edit("a red circle", "a blue circle", weights={"green": 2.0})


def test_captions_longer_than_the_text_encoder_takes_are_cut():
    long = "a red circle and " * 20
    change = edit(long + "white", long + "black cross")
    assert change.mapper.shape == (LENGTH, LENGTH)
    assert torch.isfinite(change(maps(0), maps(1), 0)).all()
    for original, end in ((long, LENGTH - 1), ("a red circle", 4)):
        edited = edit(original, long + "black cross")(maps(0), maps(1), 0)
        assert torch.equal(edited[..., -1], maps(0)[..., end])  # the end token takes the end token's map


def test_alignment_is_the_longest_common_subsequence():
    assert align([1, 2, 3, 4], [1, 9, 3, 4]) == [(0, 0), (2, 2), (3, 3)]
    assert align([1, 2], [3, 4]) == []
    assert align([5, 1, 2], [1, 2, 5]) == [(1, 0), (2, 1)]
