"""`ip2p distil`: recipes, a distillation by command, its edits, and what is told of bad input."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runner import Ip2p
from finetune_data import write_pairs
from ip2p.commands.arguments import parse_settings
from ip2p.commands.distil_settings import DistilCommandSettings
from tiny_models import picture, sd_pipeline

pytest_plugins = ["cli_fixtures"]
RECIPES = {
    path.stem: told["distil"]
    for path in sorted(DistilCommandSettings.recipes.glob("*.yaml"))
    if "distil" in (told := yaml.safe_load(path.read_text()))
}


@pytest.fixture
def flags(folder: Path) -> list[str]:
    """A distillation of two steps."""
    sd_pipeline().save_pretrained(folder / "editor")
    write_pairs(folder / "pairs.parquet", 8)
    return [
        "--model", "editor", "--data", "pairs.parquet", "--resolution", "32", "--resize-max", "32", "--batch-size", "2",
        "--steps", "2", "--validate-every", "0", "--tracker", "none", "--cpu",
    ]  # fmt: skip


def test_there_are_recipes_for_all_three() -> None:
    assert set(RECIPES) == {"shapes", "sd15", "sdxl"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_found_by_name_and_flags_override_it(name: str) -> None:
    told = RECIPES[name]
    given: Any = parse_settings("distil", DistilCommandSettings, "", ["--recipe", name, "--steps", "7"])
    read = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(given).items()}
    assert {key: read[key] for key in told} == {**told, "steps": 7}


def test_an_editor_is_distilled_and_edits(ip2p: Ip2p, flags: list[str], folder: Path) -> None:
    picture().save(folder / "cat.png")
    result = ip2p("distil", *flags, "-o", "out")
    assert result.code == 0, result.err
    assert result.out.split() == ["out/pipeline"]
    again = ip2p("distil", *flags, "-o", "out", "--steps", "3")
    assert again.code == 0 and "going on from step 2" in again.err
    few = ip2p("distil", *flags, "--model", "out/pipeline", "--stage", "steps", "-o", "few")
    assert few.code == 0, few.err
    edited = ip2p("edit", "cat.png", "make it red", "--model", "few/pipeline", "--device", "cpu", "-o", "red.png")
    assert edited.code == 0, edited.err
    held = ip2p(
        "edit", "cat.png", "red", "--model", "few/pipeline", "--device", "cpu", "--guidance-scale", "20", "-o", "b.png"
    )
    assert held.code == 0 and "distilled for guidance_scale 2 to 14: 20 counts as 14" in held.err
    refused = ip2p(
        "edit",
        "cat.png",
        "red",
        "--model",
        "few/pipeline",
        "--device",
        "cpu",
        "--negative-prompt",
        "fog",
        "-o",
        "c.png",
    )
    assert refused.code == 1 and "without negative_prompt: leave it out" in refused.err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--model", "nothing/"], "nothing"),
        (["--guidance-scales", "5", "2"], "--guidance-scales is the lowest and the highest scale"),
        (["--model", "shapes"], "leaves out 1.5, which the model recommends"),
        (["--segments", "7", "--stage", "steps"], "divides the schedule's 1,000 timesteps"),
        (["--single-file"], "the original layout has no place"),
        (["--stage", "fewer"], "invalid choice"),
    ],
)
def test_bad_input_is_a_sentence(wrong: list[str], told: str, ip2p: Ip2p, flags: list[str]) -> None:
    result = ip2p("distil", *flags, "-o", "out", *wrong)
    assert result.code in (1, 2) and told in result.err
    assert "Traceback" not in result.err
