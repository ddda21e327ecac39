"""Adaptive stop: when a guidance ends, for whom, and that nothing changes where it is off."""

import diffusers
import numpy as np
import pytest
import torch
from ip2p.ip2p_pipeline.guidance import Guidance
from tiny_models import SD_SCHEDULE, counted_samples, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4
NEVER, AT_ONCE = 1 - 1e-12, 1e-6


def predictions(batch_size: int, text: float, image: float) -> dict[str, torch.Tensor]:
    """Three branches whose neighbours have exactly these cosines."""
    x, y, z = torch.linalg.qr(torch.randn(64, 3, generator=noise(1), dtype=torch.float64))[0].T.view(3, 1, 4, 4, 4)
    middle = x
    full = text * x + (1 - text**2) ** 0.5 * y
    uncond = image * x + (1 - image**2) ** 0.5 * z
    return {k: v.expand(batch_size, -1, -1, -1) for k, v in (("full", full), ("image", middle), ("uncond", uncond))}


def guide(s_text: float | list[float] = 7.5, s_image: float | list[float] = 1.5, **settings) -> Guidance:
    batch_size = len(s_text) if isinstance(s_text, list) else 1
    settings = {"adaptive_stop": 0.99, **settings}
    return Guidance(s_text, s_image, batch_size=batch_size, num_steps=4, **settings)


def test_a_guidance_ends_after_its_two_predictions_agree() -> None:
    """The paper's rule, by numpy: cos > γ̄, from the next step on, each guidance by itself."""
    for text, image in ((0.98, 0.98), (0.995, 0.98), (0.98, 0.995), (0.995, 0.995)):
        run, e = guide(), predictions(1, text, image)
        arrays = {branch: prediction.numpy().ravel() for branch, prediction in e.items()}

        def cosine(a: str, b: str, of: dict[str, np.ndarray] = arrays) -> float:
            return of[a] @ of[b] / np.sqrt((of[a] @ of[a]) * (of[b] @ of[b]))

        first = run.combine(0, e)
        assert torch.equal(first, Guidance(7.5, 1.5, batch_size=1, num_steps=4).combine(0, e))
        want = [1.0 if cosine("full", "image") > 0.99 else 7.5, 1.0 if cosine("image", "uncond") > 0.99 else 1.5]
        assert [scale.item() for scale in run.scales(1)] == want
        plain = e["uncond"] + want[1] * (e["image"] - e["uncond"]) + want[0] * (e["full"] - e["image"])
        torch.testing.assert_close(run.combine(1, e), plain)
        assert [scale.item() for scale in run.scales(0)] == [7.5, 1.5]
    assert run.branches(1) == ("full",)


def test_it_never_takes_up_again_and_goes_on_in_another_guidance() -> None:
    run = guide()
    run.combine(1, predictions(1, 0.999, 0.5))
    run.combine(2, predictions(1, 0.5, 0.5))
    assert run.scales(3)[0].item() == 1
    assert guide().after(run).scales(3)[0].item() == 1


def test_a_scale_of_at_most_one_is_left_alone() -> None:
    run = guide(0.5, 0.7)
    run.combine(0, predictions(1, 0.999, 0.999))
    assert [scale.item() for scale in run.scales(1)] == [0.5, 0.7]


def test_a_branch_that_only_a_neighbour_needs_ends_nothing() -> None:
    run = guide([2.0, 7.5], [2.0, 1.5])  # the first image's e(c_I,∅) weighs nothing
    run.combine(0, predictions(2, 0.999, 0.999))
    assert [scale.tolist() for scale in run.scales(1)] == [[2.0, 1.0], [2.0, 1.0]]


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_off_and_never_reached_it_is_the_plain_edit_to_the_bit(make) -> None:
    pipe = make()
    plain = edit(pipe)
    assert torch.equal(edit(pipe, adaptive_stop=None), plain)
    assert torch.equal(edit(pipe, adaptive_stop=NEVER), plain)


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_what_has_ended_is_not_computed(make) -> None:
    pipe = make()
    with counted_samples(pipe) as counts:
        edit(pipe, adaptive_stop=AT_ONCE, image_guidance_scale=1.0)
    assert counts == [2, 1, 1]


def test_a_step_of_order_two_counts_as_one() -> None:
    pipe = sd_pipeline(scheduler=diffusers.HeunDiscreteScheduler(**SD_SCHEDULE))
    with counted_samples(pipe) as counts:
        edit(pipe, adaptive_stop=AT_ONCE)
    assert counts == [3, 3, 1, 1, 1]


def test_each_picture_of_a_batch_stops_by_itself() -> None:
    pipe = sd_pipeline()
    images, scales = [picture(1), picture(2), picture(3)], [(7.5, 1.5), (2.0, 2.0), (3.0, 1.0)]
    settings = {"adaptive_stop": 0.97, "num_inference_steps": 4}
    batch = edit(
        pipe,
        "red",
        images,
        guidance_scale=[text for text, _ in scales],
        image_guidance_scale=[image for _, image in scales],
        generator=[noise(i) for i in range(3)],
        **settings,
    )
    for i, (text, image) in enumerate(scales):
        one = {"guidance_scale": text, "image_guidance_scale": image, "generator": noise(i), **settings}
        assert distance(batch[i], edit(pipe, "red", images[i], **one)[0]) < CLOSE


def test_it_goes_on_where_a_callback_changes_the_scales() -> None:
    pipe = sd_pipeline()
    with counted_samples(pipe) as counts:
        edit(pipe, adaptive_stop=AT_ONCE, callback_on_step_end=lambda *_: {})
    assert counts == [3, 1, 1]
