"""The best of several edits: what is tried, how it is ranked, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Ip2p
from evaluate_data import clip, samples
from ip2p.commands import edit
from ip2p.commands.editing import BlackedOutError
from ip2p.training.evaluate.best_of import least_image_similarity, ranked, trials
from ip2p.training.shapes.oracle import shows
from ip2p.training.shapes.render import render
from PIL import Image

pytest_plugins = ["cli_fixtures"]


def test_trials_begin_with_what_was_asked_for_and_spread_about_it() -> None:
    tried = trials(40, 7, 7.5, 1.5)
    assert (tried[0].seed, tried[0].guidance_scale, tried[0].image_guidance_scale) == (7, 7.5, 1.5)
    assert [trial.seed for trial in tried] == list(range(7, 47))
    text = np.array([trial.guidance_scale for trial in tried])
    image = np.array([trial.image_guidance_scale for trial in tried])
    assert 4.5 <= text.min() < 5.2 and 9.8 < text.max() <= 10.5
    assert 1.1 < image.min() < 1.25 and 1.85 < image.max() < 2.05
    assert abs(np.corrcoef(text, image)[0, 1]) < 0.3
    assert trials(10, 7, 7.5, 1.5) == tried[:10]


def test_right_edits_come_before_wrong_ones_and_before_none() -> None:
    judge = clip()
    for sample in samples(8):
        assert sample.edit is not None
        before, right = sample.picture(), Image.fromarray(render(sample.edit.target))
        other = Image.fromarray(render(samples(32)[27].edit.target))  # type: ignore[union-attr]
        captions = sample.original_prompt, sample.edited_prompt
        best = ranked(judge, before, [before, other, right], captions, least_image_similarity("shapes"))
        assert best[0].number == 2


def test_what_is_no_longer_the_picture_comes_last() -> None:
    judge, sample = clip(), samples(1)[0]
    before = sample.picture()
    other = Image.fromarray(render(samples(32)[27].edit.target))  # type: ignore[union-attr]
    best = ranked(judge, before, [other, before], (sample.original_prompt, sample.edited_prompt), 0.99)
    assert [each.number for each in best] == [1, 0] and [each.is_alike for each in best] == [True, False]


def test_colours_under_full_transparency_do_not_count() -> None:
    """The picture is composited on white where it is read; what lies hidden below may be any colour."""
    judge, sample = clip(), samples(1)[0]
    shown = sample.picture().convert("RGB")
    shown.paste("white", (0, 0, 32, 64))
    hidden = shown.convert("RGBA")
    hidden.paste((0, 0, 0, 0), (0, 0, 32, 64))
    captions = sample.original_prompt, sample.edited_prompt
    first, second = ranked(judge, shown, [shown, hidden], captions, 0.9)
    assert first.scores == second.scores


def test_the_command_writes_the_best(ip2p: Ip2p, folder: Path) -> None:
    sample = samples(1)[0]
    assert sample.edit is not None
    sample.picture().save(folder / "scene.png")
    captions = ("--original-prompt", sample.original_prompt, "--edited-prompt", sample.edited_prompt)
    common = (
        "scene.png",
        sample.edit_prompt,
        "--model",
        "shapes",
        "--clip-model",
        "shapes",
        "--seed",
        "3",
        "--steps",
        "8",
    )
    result = ip2p("edit", *common, *captions, "--best-of", "5", "--num-images", "2", "-o", "out")
    assert result.code == 0, result.err
    first, second, told = result.out.splitlines()
    assert told.startswith("the best of 5, in")
    directions = [float(line.split("direction ")[1].split()[0]) for line in (first, second)]
    assert directions[0] >= directions[1]
    made = Image.open(folder / first.split("  ")[0])
    assert shows(np.array(made.convert("RGB")), sample.edit.target)
    recorded = json.loads(made.info["ip2p"]) if "ip2p" in made.info else made.info
    assert "directional_similarity" in str(recorded)


SCENE = ("scene.png", "make it blue", "--model", "shapes", "--clip-model", "shapes", "--steps", "1", "-o", "out")


def test_it_tells_where_none_is_the_same_picture(ip2p: Ip2p, folder: Path) -> None:
    samples(1)[0].picture().save(folder / "scene.png")
    result = ip2p("edit", *SCENE, "--best-of", "2", "--min-image-similarity", "1")
    assert result.code == 0, result.err
    assert "None is as like the picture as 1: what is most like it was taken." in result.out


def test_what_the_safety_checker_blacks_out_is_left_out(
    ip2p: Ip2p, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples(1)[0].picture().save(folder / "scene.png")
    made, unsafe = edit.edited, {1}

    def some_unsafe(model: Any, settings: Any, source: Any, seed: int, *rest: Any, **scales: Any) -> Any:
        if seed in unsafe:
            raise BlackedOutError("The model's safety checker blacked it out.")
        return made(model, settings, source, seed, *rest, **scales)

    monkeypatch.setattr(edit, "edited", some_unsafe)
    result = ip2p("edit", *SCENE, "--best-of", "3", "--seed", "0", "--num-images", "3", "--overwrite")
    assert result.code == 0 and "blacked out 1 of 3" in result.out
    assert [f"seed {seed}" in result.out for seed in (0, 1, 2)] == [True, False, True]
    unsafe |= {0, 2}
    result = ip2p("edit", *SCENE, "--best-of", "3", "--seed", "0")
    assert result.code == 1 and "blacked it out" in result.err


@pytest.mark.parametrize("flag", ["--original-prompt", "--edited-prompt", "--min-image-similarity"])
def test_what_is_for_several_edits_needs_them(flag: str, ip2p: Ip2p) -> None:
    result = ip2p("edit", "cat.jpg", "make it winter", "--model", "shapes", flag, "0.5")
    assert result.code == 1 and f"{flag} is for choosing among several edits: give --best-of too." in result.err


@pytest.mark.parametrize("number", ["1", "3"])
def test_too_few_tries_are_refused(number: str, ip2p: Ip2p) -> None:
    result = ip2p("edit", "cat.jpg", "make it winter", "--model", "shapes", "--best-of", number, "--num-images", "4")
    assert result.code == 1 and "--best-of is at least 2, and at least --num-images" in result.err
