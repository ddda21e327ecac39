"""Edits for the page, step by step."""

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ip2p import SHAPES_MODEL
from ip2p.hub.web.studio import Progress, Studio, Wish, make_judge
from ip2p.ip2p_pipeline.named_models import Model, open_model
from ip2p.training.shapes.render import render
from ip2p.training.shapes.triplets import open_triplet
from PIL import Image

EDIT = open_triplet(0).edit
PICTURE = Image.fromarray(render(EDIT.source))
WISH = Wish(EDIT.edit_prompt, 1.5, 1.2, 4, seed=3)


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("shapes", torch.float32, torch.device("cpu"))


@pytest.fixture
def studio(model: Model) -> Studio:
    return Studio(model, lambda: None, "shapes", max_seconds=60)


def results(studio: Studio, *wishes: Wish, mask: Image.Image | None = None) -> list[Image.Image]:
    *_, last = studio.edits(PICTURE, mask, list(wishes))
    assert isinstance(last, list)
    return last


def at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "_run" in thread.name]


def test_an_edit_is_the_pipelines_and_comes_step_by_step(studio: Studio, model: Model) -> None:
    *steps, made = studio.edits(PICTURE, None, [WISH, replace(WISH, seed=4)])
    assert [(word.done, word.total) for word in steps if isinstance(word, Progress)] == [(n, 8) for n in range(1, 9)]
    assert all(isinstance(word, Progress) and word.preview and word.preview.size == (64, 64) for word in steps)
    assert isinstance(made, list) and len(made) == 2
    for picture, seed in zip(made, (3, 4), strict=True):
        alone = model.pipe(
            WISH.instruction,
            PICTURE,
            guidance_scale=1.5,
            image_guidance_scale=1.2,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        assert np.array_equal(np.asarray(picture), np.asarray(alone))


def test_outside_the_mask_nothing_changes(studio: Studio) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    (made,) = results(studio, WISH, mask=Image.fromarray(mask))
    assert np.array_equal(np.asarray(made)[32:], np.asarray(PICTURE)[32:])


def test_who_stops_asking_stops_the_edit_within_a_step(studio: Studio) -> None:
    edits = studio.edits(PICTURE, None, [replace(WISH, num_inference_steps=100)])
    next(edits)
    assert at_work()
    edits.close()
    assert not at_work()
    assert results(studio, WISH)  # nothing is left locked


def test_a_request_that_takes_too_long_is_stopped(model: Model) -> None:
    studio = Studio(model, lambda: None, "shapes", max_seconds=0.2)
    with pytest.raises(ValueError, match=r"longer than 0.2 seconds and was stopped: try fewer steps"):
        results(studio, replace(WISH, num_inference_steps=1000))
    assert not at_work()


def test_requests_wait_for_each_other(studio: Studio) -> None:
    first = studio.edits(PICTURE, None, [replace(WISH, num_inference_steps=50)])
    next(first)
    second: list[Any] = []
    other = threading.Thread(target=lambda: second.extend(studio.edits(PICTURE, None, [WISH])))
    other.start()
    time.sleep(0.3)
    assert not second
    first.close()
    other.join()
    assert isinstance(second[-1], list)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"image_guidance_scale": -1.0}, "image_guidance_scale"),
    ],
)
def test_what_can_not_be_computed_is_told_in_a_sentence(studio: Studio, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        results(studio, replace(WISH, **change))
    assert "\n" not in str(raised.value)


def test_tries_are_ranked_by_clip() -> None:
    studio = Studio(
        open_model(str(SHAPES_MODEL), torch.float32, torch.device("cpu")),
        lambda: make_judge("shapes", torch.device("cpu")),
        "shapes",
        60,
    )
    wishes = studio.tries(WISH, 3)
    assert wishes[0] == WISH and len({wish.seed for wish in wishes}) == 3
    edits = [Image.fromarray(render(EDIT.target)), PICTURE, Image.new("RGB", (64, 64))]
    ranked = studio.rank(PICTURE, edits, (EDIT.original_prompt, EDIT.edited_prompt))
    assert ranked[0].number == 0 and ranked[0].is_alike
