from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from ip2p.training.pairs import local_blend
from ip2p.training.pairs.candidates import SeedGroup
from ip2p.training.pairs.renderer import RenderError
from pairs_models import base_pipeline, renderer, xl_pipeline
from pairs_plain import PlainState, plain_pair

TEXTS = ("a cat on a mat", "a bug on a mat")
LONGER = ("a cat on a mat", "a very big cat on a red mat")
PS = (0.2, 0.5, 0.55, 0.9)
GROUPS = [SeedGroup(3, 7.5, PS), SeedGroup(4, 9.0, PS)]


def relative(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one - two).abs().max() / two.abs().max())


def pictures_of(group, number):
    """Latents [2, 4, h, w] of the source, and of the target of a p."""
    return group.pictures[[0, group.branches.target_of[number]]]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
def test_paper_is_what_a_plain_implementation_draws(sampler):
    made = renderer(sampler=sampler).draw(*TEXTS, GROUPS)
    for group, drawn in zip(made, GROUPS, strict=True):
        for number, p in enumerate(PS):
            plain = plain_pair(
                base_pipeline(),
                TEXTS,
                drawn.seed,
                drawn.guidance_scale,
                p,
                7,
                sampler == "euler_ancestral",
                PlainState(),
            )
            assert relative(pictures_of(group, number), plain) < 1e-5


def test_each_p_gives_a_picture_of_its_own():
    made = renderer().draw(*TEXTS, GROUPS)[0]
    targets = [pictures_of(made, number)[1] for number in range(len(PS))]
    for one, two in pairwise(targets):
        assert relative(one, two) > 1e-4  # ten times what the others may differ by


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "full"},
        {"method": "full", "cross_replace_steps": 0.3},
        {"method": "full", "local_blend": True},
    ],
)
def test_candidates_of_a_seed_are_those_drawn_one_by_one(sampler, settings):
    together = renderer(sampler=sampler, **settings).draw(*LONGER, GROUPS)
    for group, drawn in zip(together, GROUPS, strict=True):
        for number, p in enumerate(PS):
            [alone] = renderer(sampler=sampler, **settings).draw(
                *LONGER, [SeedGroup(drawn.seed, drawn.guidance_scale, (p,))]
            )
            assert relative(pictures_of(group, number), pictures_of(alone, 0)) < 1e-5
            if group.masks is not None:
                assert torch.equal(group.masks[group.branches.target_of[number]], alone.masks[1])


@pytest.mark.parametrize("method", ["paper", "full", "none"])
def test_batches_do_not_mix(method):
    large = renderer(method=method, batch_size=64).draw(*TEXTS, GROUPS)
    small = renderer(method=method, batch_size=4).draw(*TEXTS, GROUPS)
    for one, two in zip(large, small, strict=True):
        assert relative(one.pictures, two.pictures) < 1e-5


def test_counts_the_samples_that_the_unet_evaluates():
    drawer = renderer()
    seen = []
    handle = drawer.base.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    drawer.render(*TEXTS, GROUPS)
    handle.remove()
    # The source 7 steps, the trunk 6 (p .9 ends after step 5, and that candidate goes on), branches from 2, 3 and 4 on.
    alone = 2 * (7 + 7 + (7 - 2) + (7 - 3) + (7 - 4))
    assert drawer.evaluations == sum(seen) == 2 * alone
    assert max(seen) <= 16


def test_without_prompt_to_prompt_both_pictures_are_the_pipelines_own():
    steps = 28  # whole timesteps, where diffusers' schedule and k-diffusion's agree
    drawn = SeedGroup(5, 7.5, (0.5,))
    [made] = renderer(method="none", steps=steps).draw(*TEXTS, [drawn])
    pipe = base_pipeline()
    ours = pipe.scheduler
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(ours.config, timestep_spacing="linspace")
    for picture, text in zip(made.pictures, TEXTS, strict=True):
        theirs = pipe(
            text, num_inference_steps=steps, generator=torch.Generator().manual_seed(5), output_type="latent"
        ).images[0]
        assert relative(picture, theirs) < 1e-4
    pipe.scheduler = ours


def test_full_is_what_a_plain_implementation_draws():
    """Words in place of words: maps replaced, in the conditional half, for the first half of the steps."""
    settings = {"method": "full", "cross_replace_steps": 0.5, "self_resolution": 8}
    [made] = renderer(**settings).draw(*TEXTS, [SeedGroup(3, 7.5, (0.5,))])
    state = PlainState()
    state.full, state.self_resolution = True, 8

    def per_step(i: int) -> None:
        # "cat" and "bug" are three tokens each, so every token takes the map of the one in its place.
        state.cross = (lambda source, target: source) if i < 3.5 else None

    plain = plain_pair(base_pipeline(), TEXTS, 3, 7.5, 0.5, 7, True, state, per_step)
    assert relative(pictures_of(made, 0), plain) < 1e-5
    state.self_resolution = 32
    other = plain_pair(base_pipeline(), TEXTS, 3, 7.5, 0.5, 7, True, state, per_step)
    assert relative(other, plain) > 1e-4


def test_local_blend_is_what_a_plain_implementation_blends(monkeypatch):
    threshold = 0.98  # a model of random weights attends to all of the picture alike
    monkeypatch.setattr(local_blend, "THRESHOLD", threshold)
    settings = {"method": "full", "cross_replace_steps": 0.5, "local_blend": True}
    drawer = renderer(**settings)
    [made] = drawer.draw(*TEXTS, [SeedGroup(3, 7.5, (0.5,))])
    state = PlainState()
    state.full, state.map_tokens = True, 16 * 16

    def per_step(i: int) -> None:
        state.cross = (lambda source, target: source) if i < 3.5 else None

    masks = []

    def after(i: int, x: torch.Tensor) -> torch.Tensor:
        if i < 0.2 * 7:
            return x
        kept = torch.zeros(1, 16, 16, dtype=torch.bool)
        for maps in state.seen:
            heat = torch.nn.functional.max_pool2d(maps[:, 2:5].sum(-1).view(1, 16, 16), 3, 1, 1)
            kept |= heat > threshold * heat.max()
        masks.append(kept)
        return torch.cat([x[:1], torch.where(kept, x[1:], x[:1])])

    plain = plain_pair(base_pipeline(), TEXTS, 3, 7.5, 0.5, 7, True, state, per_step, after)
    assert masks[-1].any() and not masks[-1].all()
    assert relative(pictures_of(made, 0), plain) < 1e-5
    assert torch.equal(made.masks[1, 0] > 0, masks[-1][0])
    rendered = drawer.finish(made)
    assert rendered.masks[0].shape == rendered.source.shape[:2]
    assert set(np.unique(rendered.masks[0])) == {0, 255}
    outside = made.masks[1, 0] == 0
    assert torch.equal(made.pictures[0][:, outside], made.pictures[1][:, outside])


def test_sdxl_is_drawn_as_its_pipeline_draws():
    steps = 28
    pipe = xl_pipeline()
    [made] = renderer(pipe, method="none", steps=steps).draw(*TEXTS, [SeedGroup(5, 7.5, (0.5,))])
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    for picture, text in zip(made.pictures, TEXTS, strict=True):
        theirs = pipe(
            text,
            num_inference_steps=steps,
            guidance_scale=7.5,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
        ).images[0]
        assert relative(picture, theirs) < 1e-4


def test_sdxl_takes_prompt_to_prompt():
    one = renderer(xl_pipeline(), method="none").draw(*TEXTS, GROUPS)[0].pictures
    for method in ("paper", "full"):
        two = renderer(xl_pipeline(), method=method).draw(*TEXTS, GROUPS)[0].pictures
        assert relative(two[:1], one[:1]) < 1e-5
        assert relative(two[1:2], one[1:2]) > 1e-4


def test_the_unets_own_processors_are_back():
    drawer = renderer()
    before = dict(drawer.base.unet.attn_processors)
    drawer.render(*TEXTS, GROUPS)
    assert drawer.base.unet.attn_processors == before
    handle = drawer.base.unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError):
        drawer.render(*TEXTS, GROUPS)
    handle.remove()
    assert drawer.base.unet.attn_processors == before


def fail(*_):
    raise RuntimeError("out of luck")


def test_pictures_are_rgb_and_of_the_size_asked_for():
    [made] = renderer(resolution=32).render(*TEXTS, [SeedGroup(1, 7.5, (0.3, 0.6))])
    assert made.source.shape == made.targets[0].shape == made.targets[1].shape == (32, 32, 3)
    assert made.source.dtype == np.uint8
    assert made.masks == [None, None]


def test_ps_that_end_at_the_same_step_give_one_picture_drawn_once():
    drawer = renderer()
    [made] = drawer.render(*TEXTS, [SeedGroup(1, 7.5, (0.51, 0.52, 0.53))])
    assert drawer.evaluations == 2 * 2 * 7
    assert made.targets[0] is made.targets[1] is made.targets[2]


def test_a_picture_that_is_not_finite_is_refused():
    pipe = base_pipeline()
    weight = pipe.vae.decoder.conv_out.weight
    kept = weight.data.clone()
    weight.data[:] = float("nan")
    try:
        with pytest.raises(RenderError, match="not finite"):
            renderer(pipe).render(*TEXTS, GROUPS)
    finally:
        weight.data[:] = kept
