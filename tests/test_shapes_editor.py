import pytest
import torch
from ip2p.training.shapes.editor import DROPPED_WEIGHT, make_batch, training_edit
from ip2p.training.shapes.loop import Draw
from ip2p.training.shapes.text import new_tokenizer


@pytest.fixture(scope="module")
def batch():
    means = torch.randn(50, 2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    latents = {"mean": means, "std": torch.full_like(means, 0.01)}
    return make_batch(latents, 2.0, Draw(0, 4000, 7, torch.Generator().manual_seed(7))), means


def test_conditioning_dropout_is_five_percent_text_both_and_image(batch):
    (_, condition, tokens, weight, _, _), _ = batch
    empty = torch.tensor(new_tokenizer()("", padding="max_length", max_length=40).input_ids)
    no_text = (tokens == empty).all(dim=1)
    no_image = (condition == 0).flatten(1).all(dim=1)
    assert (no_text & ~no_image).float().mean() == pytest.approx(0.05, abs=0.015)
    assert (no_text & no_image).float().mean() == pytest.approx(0.05, abs=0.015)
    assert (~no_text & no_image).float().mean() == pytest.approx(0.05, abs=0.015)
    assert (weight[no_text | no_image] == DROPPED_WEIGHT).all()
    assert (weight[~no_text & ~no_image] == 1).all()


def test_condition_is_the_unscaled_mode_and_the_target_is_scaled(batch):
    (target, condition, *_), means = batch
    kept = condition.flatten(1).abs().sum(dim=1) > 0
    sources, results = means[:, 0].flatten(1), means[:, 1].flatten(1)
    row = torch.cdist(condition[kept][:20].flatten(1), sources).min(dim=1)
    assert row.values.max() < 0.1
    assert torch.allclose(target[kept][:20].flatten(1) / 2.0, results[row.indices], atol=0.1)


def test_no_training_edit_shows_a_held_out_combination():
    assert not any(training_edit(row).held_out for row in range(500))


def test_timesteps_cover_the_whole_schedule(batch):
    (*_, timesteps), _ = batch
    assert 0 <= timesteps.min() < 10
    assert 990 < timesteps.max() <= 999
