import random

import pytest
import torch
from ip2p.training.shapes import latents as module
from ip2p.training.shapes.autoencoder import new_autoencoder, to_tensor
from ip2p.training.shapes.latents import latent_cache
from ip2p.training.shapes.scenes import random_scene


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD", 4)


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return new_autoencoder().eval()


class Scenes:
    """One scene a row, and which rows were asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, row):
        self.asked.append(row)
        return (random_scene(random.Random(row)),)


def test_it_holds_the_posterior_of_each_row(tmp_path, vae):
    whole = latent_cache(tmp_path, vae, Scenes(), 6)
    assert whole["mean"].shape == whole["std"].shape == (6, 1, 4, 16, 16)
    with torch.no_grad():
        posterior = vae.encode(to_tensor([random_scene(random.Random(5))])).latent_dist
    assert torch.allclose(whole["mean"][5], posterior.mean.half(), atol=1e-2)
    assert torch.allclose(whole["std"][5], posterior.std.half(), atol=1e-2)


def test_it_goes_on_where_it_was_cut(tmp_path, vae):
    whole = latent_cache(tmp_path, vae, Scenes(), 8)
    next(tmp_path.glob("0000004*")).unlink()
    scenes = Scenes()
    again = latent_cache(tmp_path, vae, scenes, 8)
    assert scenes.asked == [4, 5, 6, 7]
    assert torch.equal(whole["mean"], again["mean"])
    assert torch.equal(whole["std"], again["std"])


def test_more_rows_are_the_same_rows_and_more(tmp_path, vae):
    few = latent_cache(tmp_path, vae, Scenes(), 6)
    more = latent_cache(tmp_path, vae, Scenes(), 12)
    assert more["mean"].shape[0] == 12
    assert torch.allclose(more["mean"][:6], few["mean"], atol=1e-3)


def test_another_encoder_s_latents_are_not_taken(tmp_path, vae):
    latent_cache(tmp_path, vae, Scenes(), 4)
    scenes = Scenes()
    torch.manual_seed(1)
    latent_cache(tmp_path, new_autoencoder().eval(), scenes, 4)
    assert scenes.asked == [0, 1, 2, 3]
    scenes = Scenes()
    vae.decoder.conv_out.weight.data.zero_()  # the decoder makes no latents
    latent_cache(tmp_path, vae, scenes, 4)
    assert scenes.asked == []
