"""Adaptive projected guidance: the paper's algorithm, its reduction to plain guidance, its effect, its bad input."""

import math
from typing import Any

import pytest
import torch
from ip2p.ip2p_pipeline.guidance import BRANCHES, AdaptiveProjection, Guidance
from torch import Tensor

ALPHA_BAR = 0.3
# Goes through all the maths of projection and changes nothing.
HARMLESS = AdaptiveProjection(eta=1.0, norm_threshold=1e6, momentum=0.0)


def tensors(count: int, batch_size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, batch_size, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def guidance(
    s_text: Any, s_image: Any, projection: AdaptiveProjection | None, batch_size: int = 1, **settings: Any
) -> Guidance:
    return Guidance(s_text, s_image, batch_size=batch_size, num_steps=10, projection=projection, **settings)


def model_output(x0: Tensor, x: Tensor, prediction_type: str, alpha_bar: float = ALPHA_BAR) -> Tensor:
    """What a model of this kind says when it believes in x0: x = √ᾱ·x0 + √(1−ᾱ)·ε, v = √ᾱ·ε − √(1−ᾱ)·x0."""
    a, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    epsilon = (x - a * x0) / sigma
    return {"epsilon": epsilon, "v_prediction": a * epsilon - sigma * x0, "sample": x0}[prediction_type]


def denoised(output: Tensor, x: Tensor, prediction_type: str, alpha_bar: float = ALPHA_BAR) -> Tensor:
    a, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    if prediction_type == "epsilon":
        return (x - sigma * output) / a
    return a * x - sigma * output if prediction_type == "v_prediction" else output


def in_x0(run: Guidance, step: int, d: dict[str, Tensor], x: Tensor, prediction_type: str = "epsilon") -> Tensor:
    """The guided x̂0 when the three branches believe in the three x0 of `d`."""
    e = {branch: model_output(d[branch], x, prediction_type) for branch in d}
    return denoised(run.combine(step, e, x, ALPHA_BAR, prediction_type), x, prediction_type)


def beliefs(batch_size: int = 1, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    *d, x = tensors(4, batch_size, seed)
    return dict(zip(BRANCHES, d, strict=True)), x


def papers_update(difference: Tensor, average: Any, d_full: Tensor, p: AdaptiveProjection) -> tuple[Tensor, Tensor]:
    """Algorithm 1 of the paper for one image, in float64; the second result is the momentum's running average."""
    average = difference + p.momentum * average
    update = average * min(1.0, p.norm_threshold / average.norm().item()) if p.norm_threshold else average
    parallel = (update * d_full).sum() / (d_full * d_full).sum() * d_full
    return (update - parallel) + p.eta * parallel, average


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("p", [AdaptiveProjection(), AdaptiveProjection(0.3, 2.5, -0.75), AdaptiveProjection(0, 0, 0)])
def test_three_steps_of_the_papers_algorithm_in_its_dual_form(prediction_type: str, p: AdaptiveProjection) -> None:
    run = guidance(10, 2.5, p)
    text = image = torch.zeros(())
    for step in range(3):
        d, x = beliefs(seed=step)
        guided = in_x0(run, step, d, x, prediction_type)
        full, img, uncond = (d[branch].double() for branch in BRANCHES)
        update_text, text = papers_update(full - img, text, full, p)
        update_image, image = papers_update(img - uncond, image, full, p)
        expected = full + 9 * update_text + 1.5 * update_image
        torch.testing.assert_close(guided.double(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("s_text", "s_image"), [(7.5, 1.5), (7.5, 1), (3, 3), (0, 2), (2, 0.5), (0.5, 0.5), (1, 1)])
def test_with_nothing_to_do_it_is_plain_guidance(prediction_type: str, s_text: float, s_image: float) -> None:
    e = dict(zip(BRANCHES, tensors(3, 2), strict=True))
    x = tensors(1, 2, seed=1)[0]
    plain = guidance(s_text, s_image, None, 2).combine(0, e)
    run = guidance(s_text, s_image, HARMLESS, 2)
    needed = {branch: e[branch] for branch in run.branches(0)}
    torch.testing.assert_close(run.combine(0, needed, x, ALPHA_BAR, prediction_type), plain, atol=2e-5, rtol=1e-5)
    off = guidance(s_text, s_image, AdaptiveProjection(1.0, 0.0, 0.0), 2)
    assert torch.equal(off.combine(0, e, x, ALPHA_BAR, prediction_type), plain)
    assert off.branches(0) == guidance(s_text, s_image, None).branches(0)


def test_the_parallel_component_is_removed() -> None:
    d, x = beliefs()
    change = in_x0(guidance(10, 1, AdaptiveProjection(0.0, 0.0, 0.0)), 0, d, x) - d["full"]
    assert change.norm() > 1
    assert abs(torch.cosine_similarity(change.flatten(), d["full"].flatten(), dim=0)) < 1e-5
    half = in_x0(guidance(10, 1, AdaptiveProjection(0.5, 0.0, 0.0)), 0, d, x) - d["full"]
    plain = in_x0(guidance(10, 1, None), 0, d, x) - d["full"]
    torch.testing.assert_close((half * d["full"]).sum(), (plain * d["full"]).sum() / 2, atol=1e-2, rtol=1e-4)


def test_the_norm_is_clipped_image_by_image() -> None:
    d, x = beliefs(2)
    d["image"][1] = d["full"][1] + 0.01  # a difference far below the threshold
    clip = AdaptiveProjection(eta=1.0, norm_threshold=2.0, momentum=0.0)
    change = in_x0(guidance(5, 1, clip, 2), 0, d, x) - d["full"]
    assert change[0].norm().item() == pytest.approx(4 * 2.0, rel=1e-4)
    torch.testing.assert_close(change[1], torch.full_like(change[1], -0.04), atol=1e-4, rtol=0)


def test_negative_momentum_weakens_a_difference_that_stays() -> None:
    d, x = beliefs()
    run = guidance(5, 1, AdaptiveProjection(eta=1.0, norm_threshold=0.0, momentum=-0.5))
    first, second = (in_x0(run, step, d, x) - d["full"] for step in (0, 1))
    torch.testing.assert_close(second, first / 2, atol=1e-4, rtol=1e-4)
    new_run = guidance(5, 1, AdaptiveProjection(eta=1.0, norm_threshold=0.0, momentum=-0.5))
    torch.testing.assert_close(in_x0(new_run, 0, d, x) - d["full"], first)


def test_prediction_types_give_the_same_x0() -> None:
    d, x = beliefs()
    kinds = ("epsilon", "v_prediction", "sample")
    results = [in_x0(guidance(10, 2, AdaptiveProjection()), 0, d, x, kind) for kind in kinds]
    torch.testing.assert_close(results[0], results[2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(results[1], results[2], atol=1e-4, rtol=1e-4)


def test_scales_up_to_one_are_not_projected() -> None:
    d, x = beliefs()
    run = guidance(0, 1, AdaptiveProjection())
    assert run.branches(0) == ("image",)
    assert torch.equal(run.combine(0, {"image": d["image"]}), d["image"])
    text_alone = in_x0(guidance(5, 1, AdaptiveProjection()), 0, d, x)
    both = in_x0(guidance(5, 0.5, AdaptiveProjection()), 0, d, x)
    torch.testing.assert_close(both, text_alone - 0.5 * (d["image"] - d["uncond"]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("s_text", "s_image", "needed"),
    [
        (7.5, 1, ("full", "image")),
        (3, 3, BRANCHES),
        (0, 2, BRANCHES),
        (0.5, 0.5, ("full", "uncond")),
        (1, 1, ("full",)),
    ],
)
def test_branches_are_those_of_its_differences(s_text: float, s_image: float, needed: tuple[str, ...]) -> None:
    assert guidance(s_text, s_image, AdaptiveProjection()).branches(0) == needed


def test_each_row_equals_the_image_alone_over_a_run() -> None:
    s_text, s_image = [7.5, 1.0, 3.0, 0.0, 2.0], [1.5, 1.0, 1.0, 0.0, 2.0]
    settings: dict[str, Any] = {"guidance_interval": (0.1, 0.3), "guidance_rescale": 0.5}
    together = guidance(s_text, s_image, AdaptiveProjection(), 5, **settings)
    alone = [guidance(*pair, AdaptiveProjection(), **settings) for pair in zip(s_text, s_image, strict=True)]
    for step in range(4):
        *e, x = tensors(4, 5, seed=step)
        batch = dict(zip(BRANCHES, e, strict=True))
        batch["uncond"][1] = math.nan  # an image that never needs this branch
        guided = together.combine(step, batch, x, ALPHA_BAR)
        for i, run in enumerate(alone):
            row = run.combine(step, {b: batch[b][i : i + 1] for b in run.branches(step)}, x[i : i + 1], ALPHA_BAR)
            torch.testing.assert_close(guided[i : i + 1], row)


def test_a_batch_with_one_scale_equals_its_images_alone() -> None:
    together = guidance(7.5, 1.5, AdaptiveProjection(), 3)
    alone = [guidance(7.5, 1.5, AdaptiveProjection()) for _ in range(3)]
    for step in range(3):
        d, x = beliefs(3, seed=step)
        guided = in_x0(together, step, d, x)
        for i, run in enumerate(alone):
            row = in_x0(run, step, {b: d[b][i : i + 1] for b in BRANCHES}, x[i : i + 1])
            torch.testing.assert_close(guided[i : i + 1], row, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_and_finite_at_the_noisiest_step(dtype: torch.dtype) -> None:
    *e, x = tensors(4, 1).to(dtype)
    predictions = dict(zip(BRANCHES, e, strict=True))
    guided = guidance(30, 5, AdaptiveProjection()).combine(0, predictions, x, torch.tensor(0.0047))
    assert guided.dtype == dtype and guided.isfinite().all()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("eta", 1.5, "eta must be between 0 and 1, got 1.5"),
        ("eta", math.nan, "eta must be between 0 and 1, got nan"),
        ("norm_threshold", -1, "norm_threshold must be finite and at least 0, got -1"),
        ("norm_threshold", math.inf, "norm_threshold must be finite and at least 0, got inf"),
        ("momentum", -1, "momentum must be above -1 and below 1, got -1"),
        ("momentum", math.nan, "momentum must be above -1 and below 1, got nan"),
    ],
)
def test_a_bad_setting_is_named(setting: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveProjection(**{setting: value})


def test_what_projection_needs_is_named() -> None:
    run = guidance(7.5, 1.5, AdaptiveProjection())
    e = dict(zip(BRANCHES, tensors(3, 1), strict=True))
    with pytest.raises(ValueError, match="projection needs sample and alpha_bar"):
        run.combine(0, e)
    with pytest.raises(ValueError, match="prediction_type must be epsilon, v_prediction or sample, got 'flow'"):
        run.combine(0, e, e["full"], 0.5, "flow")
