"""Text2LIVE: its layer, its losses, and that they fall."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from evaluate_data import clip, samples
from ip2p.training.evaluate.edit_layer import EditLayer, composite, on_screen, scales_for
from ip2p.training.evaluate.plan import PLAIN
from ip2p.training.evaluate.text2live import Text2LIVE, as_tensor
from ip2p.training.evaluate.text2live_losses import TEMPLATES, LayerLoss, Weights, spherical

SCORER = clip().scorer


def few(**given: Any) -> Weights:
    return Weights(**{"templates": ("{}",), "screen": 0.0, "views": 4, **given})


@pytest.mark.parametrize(("height", "width", "scales"), [(64, 64, 4), (48, 80, 3), (512, 700, 7), (16, 16, 2)])
def test_a_layer_has_the_pictures_size_and_lies_from_0_to_1(height: int, width: int, scales: int) -> None:
    assert scales_for(height, width) == scales
    layer = EditLayer(scales, width=8)(torch.rand(1, 3, height, width))
    assert layer.shape == (1, 4, height, width) and layer.min() >= 0 and layer.max() <= 1


def test_the_papers_network_is_as_large_as_it_should_be() -> None:
    network = EditLayer()
    assert len(network.downs) == 7 and network.out.out_channels == 4
    assert network.ups[0][1][0].in_channels == 128 + 4


def test_a_layer_is_put_over_the_picture() -> None:
    picture = torch.rand(1, 3, 8, 8)
    clear, full = (torch.cat([torch.full((1, 3, 8, 8), 0.3), torch.full((1, 1, 8, 8), a)], 1) for a in (0.0, 1.0))
    assert torch.equal(composite(clear, picture), picture)
    assert torch.allclose(composite(full, picture), torch.tensor(0.3))
    assert torch.allclose(on_screen(clear)[0, :, 0, 0] * 255, torch.tensor([0.0, 177.0, 64.0]))


def test_the_spherical_distance_is_twice_the_squared_half_angle() -> None:
    one = torch.tensor([[1.0, 0.0]])
    for angle in (0.0, 0.5, math.pi / 2, 3.0):
        other = torch.tensor([[math.cos(angle), math.sin(angle)]]) * 7
        assert float(spherical(one, other)) == pytest.approx(2 * (angle / 2) ** 2, abs=1e-4)


def test_the_terms_are_what_they_say() -> None:
    sample = samples(1)[0]
    loss = LayerLoss(SCORER, sample.original_prompt, sample.edited_prompt, few())
    picture = as_tensor(sample.picture())
    clear = torch.cat([torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)], 1)
    terms = loss(clear, picture)
    assert float(terms["structure"]) == pytest.approx(0, abs=1e-8)  # the composite is the picture
    assert float(terms["sparsity"]) == pytest.approx(0, abs=1e-8)
    full = torch.cat([torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)], 1)
    terms = loss(full, picture)
    assert float(terms["structure"]) > 1e-4
    assert float(terms["sparsity"]) == pytest.approx(0.01 + 0.01 * (2 / (1 + math.exp(-5)) - 1), abs=1e-6)
    expected = terms["caption"] + terms["direction"] + 2 * terms["structure"] + 6 * terms["sparsity"]
    assert float(terms["loss"]) == pytest.approx(float(expected), abs=1e-5)


def test_the_papers_templates_and_weights_are_the_defaults() -> None:
    weights = Weights()
    assert len(set(TEMPLATES)) == 14 and weights.views == 16
    assert (weights.composition, weights.screen, weights.structure, weights.sparsity) == (1, 1, 2, 6)


def test_views_of_captions_that_tell_places_are_never_turned_round() -> None:
    sample = samples(1)[0]
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 32:] = 1
    for distorted in (False, True):
        loss = LayerLoss(SCORER, sample.original_prompt, sample.edited_prompt, few(views=32, distorted=distorted))
        views = loss.views(picture)
        assert views.shape == (32, 3, 64, 64)
        right_way_round = views[..., 48:].mean(dim=(1, 2, 3)) > views[..., :16].mean(dim=(1, 2, 3))
        assert bool(right_way_round.all()) != distorted
        assert len(torch.unique(views, dim=0)) == 32


def test_its_loss_falls_and_the_same_seed_gives_the_same_picture() -> None:
    sample = samples(1)[0]
    before = torch.random.get_rng_state()
    made, histories = [], []
    for steps, seed in ((25, 0), (3, 0), (3, 0), (3, 1)):
        loss = LayerLoss(SCORER, sample.original_prompt, sample.edited_prompt, few())
        picture, history = Text2LIVE.train(as_tensor(sample.picture()), loss, steps, seed)
        made.append(picture)
        histories.append([row["loss"] for row in history])
    assert np.mean(histories[0][-5:]) < np.mean(histories[0][:5]) - 0.1
    assert histories[0][:3] == histories[1]
    assert torch.equal(made[1], made[2]) and not torch.equal(made[1], made[3])
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_edits_samples_by_their_captions() -> None:
    sample = samples(1)[0]
    method = Text2LIVE("shapes", None, PLAIN, scorer=SCORER)
    [made] = method.edit([sample], [sample.picture()], {"iterations": 2}, [0])
    assert made.size == (64, 64)
