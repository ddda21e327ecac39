"""Dual guidance against diffusers' formula: branches, per-image scales, intervals, schedules, rescale, bad input."""

import math
from typing import Any

import pytest
import torch
from ip2p.ip2p_pipeline.guidance import BRANCHES, Guidance
from torch import Tensor

MIXED = ([7.5, 1.0, 3.0, 0.0, 2.0], [1.5, 1.0, 1.0, 0.0, 2.0])  # s_T, s_I: 3, 1, 2, 1 and 2 branches


def predictions(batch_size: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    e = torch.randn(3, batch_size, 4, 8, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return dict(zip(BRANCHES, e, strict=True))


def guidance(s_text: Any, s_image: Any, batch_size: int = 1, num_steps: int = 10, **settings: Any) -> Guidance:
    return Guidance(s_text, s_image, batch_size=batch_size, num_steps=num_steps, **settings)


def stock(e: dict[str, Tensor], s_text: float, s_image: float) -> Tensor:
    """As diffusers' StableDiffusionInstructPix2PixPipeline writes it."""
    return e["uncond"] + s_text * (e["full"] - e["image"]) + s_image * (e["image"] - e["uncond"])


def only(e: dict[str, Tensor], branches: tuple[str, ...]) -> dict[str, Tensor]:
    return {branch: e[branch] for branch in branches}


# The formula


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_defaults_equal_the_stock_formula_to_the_last_bit(dtype: torch.dtype) -> None:
    e = predictions(2, dtype)
    guided = guidance(7.3, 1.6, 2).combine(0, e)
    assert guided.dtype == dtype
    assert torch.equal(guided, stock(e, 7.3, 1.6))


@pytest.mark.parametrize("s_text", [0, 0.5, 1, 1.5, 7.5])
@pytest.mark.parametrize("s_image", [0, 0.5, 1, 1.5, 7.5])
def test_any_scales_equal_the_stock_formula_from_the_needed_branches_alone(s_text: float, s_image: float) -> None:
    e = predictions(2)
    run = guidance(s_text, s_image, 2)
    torch.testing.assert_close(
        run.combine(0, only(e, run.branches(0))), stock(e, s_text, s_image), atol=2e-5, rtol=1e-5
    )


def test_predictions_are_left_as_they_are() -> None:
    e, untouched = predictions(5), predictions(5)
    guidance(*MIXED, 5, guidance_rescale=0.7).combine(0, e)
    assert all(torch.equal(e[branch], untouched[branch]) for branch in BRANCHES)


def test_weights_sum_to_one_at_every_step() -> None:
    run = guidance(*MIXED, 5, guidance_interval=(0.2, 0.7), guidance_schedule="cosine")
    for step in range(10):
        weights = run.weights(step)
        torch.testing.assert_close(weights["full"] + weights["image"] + weights["uncond"], torch.ones(5).double())
        s_text, s_image = run.scales(step)
        assert torch.equal(weights["full"], s_text) and torch.equal(weights["uncond"], 1 - s_image)


# The branches


@pytest.mark.parametrize(
    ("s_text", "s_image", "needed"),
    [
        (7.5, 1.5, BRANCHES),
        (7.5, 0, BRANCHES),
        (7.5, 0.5, BRANCHES),
        (7.5, 1, ("full", "image")),
        (2, 2, ("full", "uncond")),
        (0.5, 0.5, ("full", "uncond")),
        (0, 1.5, ("image", "uncond")),
        (1, 1, ("full",)),
        (0, 1, ("image",)),
        (0, 0, ("uncond",)),
    ],
)
def test_only_branches_with_a_weight_are_needed(s_text: float, s_image: float, needed: tuple[str, ...]) -> None:
    assert guidance(s_text, s_image).branches(0) == needed


def test_a_mixed_batch_needs_the_union_in_stock_order() -> None:
    assert guidance([1, 0], [1, 0], 2).branches(0) == ("full", "uncond")
    assert guidance([1, 0], [1, 1], 2).branches(0) == ("full", "image")
    assert guidance([0, 3, 1], [0, 1, 1], 3).branches(0) == BRANCHES


def test_rescale_needs_the_full_prediction_even_at_weight_zero() -> None:
    assert guidance(0, 0, guidance_rescale=0.5).branches(0) == ("full", "uncond")
    assert guidance(0, 1.5, guidance_rescale=0.5).branches(0) == BRANCHES
    assert guidance(0, 0, guidance_rescale=0.0).branches(0) == ("uncond",)


# The interval


def test_interval_is_half_open_and_neutral_outside() -> None:
    run = guidance(7.5, 1.5, guidance_interval=(0.2, 0.5), image_guidance_interval=(0.4, 1.0))
    assert [run.scales(step)[0].item() for step in range(10)] == [1, 1, 7.5, 7.5, 7.5, 1, 1, 1, 1, 1]
    assert [run.scales(step)[1].item() for step in range(10)] == [1, 1, 1, 1, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    assert [len(run.branches(step)) for step in range(10)] == [1, 1, 2, 2, 3, 3, 3, 3, 3, 3]
    e = predictions()
    assert torch.equal(run.combine(0, only(e, ("full",))), e["full"])


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 10, 20, 50])
def test_adjoining_intervals_share_the_run_without_gap_or_overlap(num_steps: int) -> None:
    for cut in (0.1, 0.1 + 0.2, 1 / 3, 1 - 1 / 3, 0.5, 0.7):
        first = guidance(2, 1, num_steps=num_steps, guidance_interval=(0.0, cut))
        second = guidance(2, 1, num_steps=num_steps, guidance_interval=(cut, 1.0))
        for step in range(num_steps):
            guided = first.scales(step)[0].item(), second.scales(step)[0].item()
            assert guided == ((2, 1) if step / num_steps < cut - 1e-9 else (1, 2))


# One scale per image


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_each_row_equals_the_image_alone(dtype: torch.dtype, rescale: float) -> None:
    e = predictions(5, dtype)
    together = guidance(*MIXED, 5, guidance_rescale=rescale).combine(0, e)
    for i, pair in enumerate(zip(*MIXED, strict=True)):
        run = guidance(*pair, guidance_rescale=rescale)
        row = run.combine(0, {branch: e[branch][i : i + 1] for branch in run.branches(0)})
        assert torch.equal(together[i : i + 1], row)


def test_an_overflow_in_a_branch_that_only_a_neighbour_needs_stays_there() -> None:
    e = predictions(2)
    e["uncond"][0] = math.inf
    e["image"][0] = math.nan
    guided = guidance([1.0, 7.5], [1.0, 1.5], 2, guidance_rescale=0.5).combine(0, e)
    assert torch.equal(guided[0], e["full"][0])


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor])
def test_scales_come_as_sequence_or_tensor_or_number(kind: Any) -> None:
    s_text, s_image = guidance(kind([7.5, 2.0]), 1.5, 2).scales(0)
    assert s_text.tolist() == [7.5, 2.0]
    assert s_image.tolist() == [1.5, 1.5]


# The schedules


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("num_steps", [2, 3, 10, 50])
def test_schedule_rises_from_neutral_and_keeps_the_mean(schedule: str, num_steps: int) -> None:
    run = guidance(7.5, 1.5, num_steps=num_steps, guidance_schedule=schedule)
    s_text, s_image = (torch.cat(s) for s in zip(*(run.scales(i) for i in range(num_steps)), strict=True))
    assert (s_text.diff() > 0).all() and (s_image.diff() > 0).all()
    assert (s_text[0], s_image[0]) == (1, 1)
    torch.testing.assert_close(torch.stack([s_text[-1], s_image[-1]]), torch.tensor([14.0, 2.0]).double())
    torch.testing.assert_close(torch.stack([s_text.mean(), s_image.mean()]), torch.tensor([7.5, 1.5]).double())


def test_linear_and_cosine_are_their_curves() -> None:
    linear = guidance(3, 1, num_steps=5, guidance_schedule="linear")
    cosine = guidance(3, 1, num_steps=5, guidance_schedule="cosine")
    assert [linear.scales(i)[0].item() for i in range(5)] == [1, 2, 3, 4, 5]
    expected = [3 - 2 * math.cos(math.pi * i / 4) for i in range(5)]
    assert [cosine.scales(i)[0].item() for i in range(5)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedule_ramps_within_the_interval(schedule: str) -> None:
    run = guidance(4, 1, guidance_interval=(0.3, 0.8), guidance_schedule=schedule)
    s_text = [run.scales(step)[0].item() for step in range(10)]
    assert s_text[:4] == [1, 1, 1, 1] and s_text[7] == pytest.approx(7) and s_text[8:] == [1, 1]
    assert sum(s_text[3:8]) / 5 == pytest.approx(4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedule_leaves_neutral_and_lower_scales_alone(schedule: str) -> None:
    run = guidance([1, 0.4, 0], [1, 1, 0], 3, guidance_schedule=schedule)
    for step in range(10):
        assert run.scales(step)[0].tolist() == [1, 0.4, 0]
    one_step = guidance(7.5, 1.5, num_steps=1, guidance_schedule=schedule)
    assert [s.item() for s in one_step.scales(0)] == [7.5, 1.5]


# The rescale


@pytest.mark.parametrize("phi", [0.3, 0.7, 1.0])
def test_rescale_is_the_papers_equation(phi: float) -> None:
    e = predictions(3)
    e["full"] *= torch.tensor([0.5, 1.0, 2.0])[:, None, None, None]
    guided = guidance(7.5, 1.5, 3, guidance_rescale=phi).combine(0, e)
    for i in range(3):
        x_cfg, x_pos = stock(e, 7.5, 1.5)[i].double().numpy(), e["full"][i].double().numpy()
        x_rescaled = x_cfg * x_pos.std(ddof=1) / x_cfg.std(ddof=1)  # eq. 15
        x_final = phi * x_rescaled + (1 - phi) * x_cfg  # eq. 16
        torch.testing.assert_close(guided[i].double(), torch.from_numpy(x_final), atol=1e-5, rtol=1e-5)


def test_rescale_off_changes_no_bit_and_keeps_half_precision() -> None:
    e = predictions(2, torch.bfloat16)
    assert torch.equal(guidance(7.5, 1.5, 2, guidance_rescale=0.0).combine(0, e), stock(e, 7.5, 1.5))
    assert guidance(7.5, 1.5, 2, guidance_rescale=0.7).combine(0, e).dtype == torch.bfloat16


# Bad input


@pytest.mark.parametrize("name", ["guidance_scale", "image_guidance_scale"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "must be finite and at least 0, got nan"),
        (math.inf, "must be finite and at least 0, got inf"),
        (-0.5, "must be finite and at least 0, got -0.5"),
        ([1.5, -2.0], "must be finite and at least 0, got -2.0"),
        ([1.5, 2.0, 3.0], r"must be a number or one per image \(2\), got shape \(3,\)"),
        ([1.5], r"must be a number or one per image \(2\), got shape \(1,\)"),
        (torch.ones(2, 1), r"must be a number or one per image \(2\), got shape \(2, 1\)"),
        ("high", "must be a number or one number per image, got 'high'"),
        (None, "must be a number or one number per image, got None"),
        ([[1.0], [1.0, 2.0]], "must be a number or one number per image"),
    ],
)
def test_a_bad_scale_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} {message}"):
        Guidance(**{"guidance_scale": 7.5, "image_guidance_scale": 1.5, name: value}, batch_size=2, num_steps=10)


@pytest.mark.parametrize("name", ["guidance_interval", "image_guidance_interval"])
@pytest.mark.parametrize("value", [(0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), (math.nan, 1.0), (0.5,), 0.5])
def test_a_bad_interval_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be \(start, stop\) with 0 <= start < stop <= 1, got"):
        guidance(7.5, 1.5, **{name: value})


def test_a_bad_schedule_or_rescale_is_named() -> None:
    with pytest.raises(ValueError, match="guidance_schedule must be one of constant, linear, cosine, got 'sine'"):
        guidance(7.5, 1.5, guidance_schedule="sine")
    for phi in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"guidance_rescale must be between 0 and 1, got {phi}"):
            guidance(7.5, 1.5, guidance_rescale=phi)
