"""The CLIP of the shapes world: open_clip loads it from its folder, and its batches are made of near misses."""

import itertools
import math
import random
from pathlib import Path

import open_clip
import pytest
import torch
from ip2p.training.shapes import clip
from ip2p.training.shapes.autoencoder import to_tensor
from ip2p.training.shapes.captions import caption
from ip2p.training.shapes.loop import Draw
from ip2p.training.shapes.oracle import names
from ip2p.training.shapes.render import render
from ip2p.training.shapes.scenes import random_scene
from PIL import Image
from safetensors.torch import load_file
from shapes_grammar import parse_caption


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP, saved."""
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model, _ = clip.new_clip(path)
    clip.save_weights(model, path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> open_clip.tokenizer.HFTokenizer:
    return open_clip.get_tokenizer(f"local-dir:{folder}")


def draw(count: int = 16, seed: int = 0) -> Draw:
    return Draw(0, count, seed, torch.Generator().manual_seed(seed))


def words(tokenizer: open_clip.tokenizer.HFTokenizer, tokens: torch.Tensor) -> str:
    return tokenizer.tokenizer.decode(tokens, skip_special_tokens=True).replace(" ,", ",")


def test_open_clip_loads_the_folder_as_it_was_saved(folder: Path) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    saved = load_file(folder / "open_clip_model.safetensors")
    assert all(
        torch.equal(model.state_dict()[name], tensor.to(model.state_dict()[name])) for name, tensor in saved.items()
    )
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6e6
    scene = random_scene(random.Random(0))
    # The preprocessing that users get is the one of training.
    assert torch.allclose(preprocess(Image.fromarray(render(scene))), to_tensor([scene])[0], atol=1e-6)


def test_every_caption_fits_and_has_no_unknown_word(tokenizer: open_clip.tokenizer.HFTokenizer) -> None:
    rng = random.Random(0)
    scenes = [random_scene(rng, held_out=i % 2 == 0) for i in range(400)]
    captions = [caption(scene, rng) for scene in scenes]
    tokens = tokenizer(captions)
    vocabulary = clip.vocabulary()
    assert tokens.shape == (400, clip.CONTEXT_LENGTH)
    assert not (tokens == vocabulary.index("<unk>")).any()
    assert ((tokens == vocabulary.index("<end>")).sum(dim=1) == 1).all()
    assert tokens.max() == vocabulary.index("<end>") == len(vocabulary) - 1  # open_clip pools at the highest number
    assert [words(tokenizer, row) for row in tokens] == captions


def test_unknown_words_are_told_from_known_ones(tokenizer: open_clip.tokenizer.HFTokenizer) -> None:
    known, unknown = tokenizer(["a Red circle", "a zebra circle"])
    assert not (known == 1).any() and (unknown == 1).sum() == 1


def test_near_misses_are_distinct_and_never_held_out_in_training() -> None:
    rng = random.Random(0)
    for _ in range(30):
        scene = random_scene(rng)
        near = clip.near_misses(scene, 7, rng)
        alike = {(each.background, frozenset(names(each))) for each in [scene, *near]}
        assert len(alike) == 8 and not any(each.held_out for each in near)
        near = [scene, *clip.near_misses(scene, 7, rng, placed=[])]
        assert len({parse_caption(caption(each, rng, [])) for each in near}) == 8
    near = [each for _ in range(30) for each in clip.near_misses(random_scene(rng), 7, rng, held_out=True)]
    assert any(each.held_out for each in near)


def test_batches_are_groups_of_near_misses_that_follow_the_seed(tokenizer: open_clip.tokenizer.HFTokenizer) -> None:
    pixels, tokens = clip.make_batch(draw(), tokenizer)
    again = clip.make_batch(draw(), tokenizer)
    assert pixels.shape == (16, 3, 64, 64) and torch.equal(pixels, again[0]) and torch.equal(tokens, again[1])
    assert not torch.equal(tokens, clip.make_batch(draw(seed=1), tokenizer)[1])
    told = [parse_caption(words(tokenizer, row)) for row in tokens]
    for group in (told[:8], told[8:]):
        assert len(set(group)) == 8
        for near in group[1:]:
            # One edit away: another background, or at most two objects (a swap's) gone and come.
            gone, come = group[0].objects - near.objects, near.objects - group[0].objects
            assert (near.background != group[0].background and not gone | come) or max(len(gone), len(come)) <= 2


def test_half_of_the_groups_leave_places_open(tokenizer: open_clip.tokenizer.HFTokenizer) -> None:
    _, tokens = clip.make_batch(draw(320), tokenizer)
    told = [parse_caption(words(tokenizer, row)) for row in tokens]
    groups = [told[start : start + 8] for start in range(0, 320, 8)]
    assert all(len(set(group)) == 8 for group in groups)
    full = sum(all(thing.cell is not None for scene in group for thing in scene.objects) for group in groups)
    assert 12 <= full <= 28


def test_a_trial_has_one_right_scene_and_seven_wrong_ones() -> None:
    rng = random.Random(0)
    for leave_open in (False, True) * 20:
        source, after, captions = clip.trial(rng, leave_open)
        assert len(after) == 8 and len(captions) == 9
        told = [parse_caption(text) for text in captions]
        assert len(set(told)) == 9
        assert any(thing.cell is None for each in told for thing in each.objects) <= leave_open
        assert {thing.shape for thing in source.things} == {each.shape for each in told[0].objects}


def test_softening_changes_pictures_a_little_each_in_its_own_way() -> None:
    rng = random.Random(0)
    clean = to_tensor([random_scene(rng)] * 64)
    soft = clip.soften(clean, torch.Generator().manual_seed(0))
    assert torch.equal(soft, clip.soften(clean, torch.Generator().manual_seed(0)))
    change = (soft - clean).abs().mean(dim=(1, 2, 3))
    assert change.min() < 0.02 and 0.05 < change.max() < 0.3 and len(change.unique()) == 64


def test_the_loss_of_an_untrained_model_is_chance(tokenizer: open_clip.tokenizer.HFTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, _ = clip.new_clip(tmp_path)
    loss = clip.Contrast(model)(*clip.make_batch(draw(32), tokenizer))
    assert float(loss.detach()) == pytest.approx(math.log(32), abs=1.5)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_direction_similarity_is_one_along_and_minus_one_against() -> None:
    text = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(clip.direction_similarity(3 * text + 1, text), torch.ones(5), atol=1e-5)
    assert torch.allclose(clip.direction_similarity(text.flip(0), text), -torch.ones(5), atol=1e-5)


def test_an_untrained_model_scores_as_chance_does(folder: Path) -> None:
    scores = clip.evaluate(folder, count=24)
    kinds = itertools.product(("direction", "caption", "retrieval"), ("placed", "open"), ("clean", "softened"))
    assert set(scores) == {" ".join(each) for each in kinds}
    assert abs(scores["direction open clean"] - 0.5) < 0.3 and scores["retrieval placed clean"] < 0.5
    assert clip.evaluate(folder, count=24) == scores


@pytest.mark.slow
def test_the_command_trains_saves_and_prints_the_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip.main(clip.ClipSettings(tmp_path, steps=2, batch_size=16))
    assert "direction placed clean: 0." in capsys.readouterr().out
    model = open_clip.create_model(f"local-dir:{tmp_path}/clip")
    # Batch statistics were taken of the averaged weights: neither fresh nor those of the run's two steps.
    assert int(model.visual.bn1.num_batches_tracked) == 50
