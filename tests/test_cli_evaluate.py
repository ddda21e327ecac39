"""`ip2p evaluate`: a whole small evaluation, resumed, and bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Ip2p
from finetune_data import write_pairs
from ip2p.commands.arguments import parse_settings
from ip2p.training.evaluate.settings import EvaluateSettings
from openai_faults import Faults
from openai_server import serving

pytest_plugins = ["cli_fixtures"]
SMALL = (
    "--base", "shapes", "--clip-model", "shapes", "--steps", "2", "--num-samples", "4", "--image-guidance-scales", "1",
    "1.5", "--guidance-scales", "2", "--strengths", "0.5", "--base-guidance-scale", "2", "--image-format", "png",
    "--device", "cpu",
)  # fmt: skip


def test_methods_are_compared_and_a_second_run_adds_what_is_new(ip2p: Ip2p, folder: Path) -> None:
    result = ip2p("evaluate", *SMALL, "--methods", "ip2p,sdedit", "--report", "out")
    assert result.code == 0, result.err
    assert result.out.split() == ["out/report.html", "out/report.json", "out/report.csv"]
    first = json.loads((folder / "out" / "report.json").read_text())
    assert [point["method"] for point in first["points"]] == ["ip2p", "ip2p", "SDEdit", "no edit"]
    assert first["points"][-1]["scores"]["image_similarity"]["mean"] == pytest.approx(1)
    lines = (folder / "out" / "scores-0.jsonl").read_text().count("\n")
    again = ip2p("evaluate", *SMALL, "--methods", "ip2p", "sdedit", "--report", "out", "--strengths", "0.5", "0.9")
    assert again.code == 0
    assert (folder / "out" / "scores-0.jsonl").read_text().count("\n") == lines + 4
    assert json.loads((folder / "out" / "report.json").read_text())["points"][:3] == first["points"][:3]


def test_scores_of_other_data_or_by_another_clip_are_not_mixed(ip2p: Ip2p, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "settings.json").write_text(json.dumps({"data": "mine.parquet"}))
    result = ip2p("evaluate", *SMALL, "--report", "out")
    assert result.code == 1
    assert "holds an evaluation with --data mine.parquet, not shapes: give another --report." in result.err


def test_scores_of_data_that_was_changed_are_not_mixed(ip2p: Ip2p, folder: Path) -> None:
    data = write_pairs(folder / "pairs" / "data" / "train-00000.parquet", 3, each=1)
    asked = (*SMALL, "--data", "pairs/", "--metrics", "pixels", "--report", "out")
    first = ip2p("evaluate", *asked)
    assert first.code == 0, first.err
    assert ip2p("evaluate", *asked).code == 0
    settings = json.loads((folder / "out" / "settings.json").read_text())
    assert list(settings["content"]) == ["data/train-00000.parquet"]
    write_pairs(data, 4, each=1)
    changed = ip2p("evaluate", *asked)
    assert changed.code == 1
    assert "out holds an evaluation of pairs/ as it was before it was changed: give another --report." in changed.err
    del settings["content"]  # of a version that did not tell
    (folder / "out" / "settings.json").write_text(json.dumps(settings))
    assert ip2p("evaluate", *asked).code == 0


def test_a_judge_that_cant_be_asked_is_told_before_anything_is_edited(
    ip2p: Ip2p, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    asked = ("evaluate", *SMALL, "--methods", "ip2p,sdedit", "--judge", "seer", "--report", "out")
    for wrong, told in (((), "OpenAI needs a key"), (("--base-url", "nowhere"), "--base-url must be an address")):
        result = ip2p(*asked, *wrong)
        assert result.code == 1 and told in result.err and not (folder / "out").exists()
        assert ip2p(*asked, *wrong, "--dry-run").code == 0


def test_how_a_judge_answers_is_the_users_choice(ip2p: Ip2p, folder: Path) -> None:
    asked = ("--methods", "ip2p,sdedit", "--metrics", "pixels", "--report", "out", "--judge", "seer")
    asked = (*SMALL, *asked, "--judge-samples", "1", "--judge-temperature", "null", "--judge-max-tokens", "9000")
    with serving(Faults(answer=json.dumps({"reason": "", "better": "tie"}))) as service:
        assert ip2p("evaluate", *asked, "--base-url", service.url).code == 0
        assert all(body["max_tokens"] == 9000 and "temperature" not in body for body in service.bodies)
    assert "18,000 completion tokens" in ip2p("evaluate", *asked, "--dry-run").out


def test_a_judge_compares_the_methods_and_where_it_must_stop_the_report_is_there(ip2p: Ip2p, folder: Path) -> None:
    methods = (
        "--methods",
        "ip2p,sdedit",
        "--metrics",
        "pixels",
        "--report",
        "out",
        "--judge",
        "seer",
        "--judge-samples",
        "3",
    )
    prices = ("--price-prompt", "1", "--price-completion", "10")
    with serving(Faults(answer=json.dumps({"reason": "", "better": "first"}))) as service:
        asked = (*SMALL, *methods, *prices, "--base-url", service.url)
        short = ip2p("evaluate", *asked, "--max-requests", "4")
        assert short.code == 1 and "--max-requests 4 is reached" in short.err and "The report in out" in short.err
        told = json.loads((folder / "out" / "report.json").read_text())["judgement"]
        assert told["spent"]["answers"] == 4 and "--max-requests 4" in told["stopped"]
        whole = ip2p("evaluate", *asked)
        assert whole.code == 0, whole.err
        assert sum(service.answered.values()) == 6
    told = json.loads((folder / "out" / "report.json").read_text())["judgement"]
    [(name, preferred)] = told["preferred"].items()
    assert name.startswith("ip2p, s_I") and "over SDEdit" in name and preferred["mean"] == 0.5
    spent = told["spent"]
    assert spent["answers"] == 6 and spent["cost"] == pytest.approx(
        (spent["prompt_tokens"] + 10 * spent["completion_tokens"]) / 1e6
    )
    assert service.url not in (folder / "out" / "report.html").read_text()


def test_a_dry_run_counts_and_makes_nothing(ip2p: Ip2p, folder: Path) -> None:
    flags = ("--methods", "ip2p,sdedit", "--judge", "seer", "--price-prompt", "1", "--price-completion", "1")
    result = ip2p("evaluate", *SMALL, *flags, "--report", "out", "--dry-run")
    assert result.code == 0, result.err
    ours, theirs, none, judged = result.out.splitlines()
    assert ours == "ip2p: 8 edits, 2 of each of 4 samples" and theirs == "SDEdit: 4 edits, 1 of each of 4 samples"
    assert none == "no edit: 4 edits, 1 of each of 4 samples"
    assert judged.startswith("judge: 8 requests, at most ") and judged.endswith("at most 0.08")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["magicbrush", "emu-edit"])
def test_the_protocols_of_others_are_recipes(name: str) -> None:
    given: Any = parse_settings("evaluate", EvaluateSettings, "", ["--recipe", name, "--data", "test/"])
    assert (given.clip_model, given.metrics, given.data) == ("ViT-B-32", ["clip", "pixels", "dino"], "test/")


@pytest.mark.parametrize("name", ["shapes", "sd15"])
def test_the_papers_figure_is_a_recipe(name: str) -> None:
    given: Any = parse_settings("evaluate", EvaluateSettings, "", ["--recipe", name, "--seeds", "2"])
    assert given.image_guidance_scales[:7] == [1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2]
    assert given.image_guidance_scales[7:] == ([3.0, 4.0] if name == "shapes" else [])
    assert given.strengths == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert given.methods == ["ip2p", "sdedit"] and given.seeds == 2
    if name == "sd15":
        assert (given.num_samples, given.guidance_scales, given.steps) == (5000, [7.5], [100]) and given.as_published


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--methods", "magic"], "There is no method magic"),
        (["--metrics", "taste"], "There is no metric taste"),
        (["--strengths", "1.5"], "--strengths are shares"),
        (["--model", "./nothing"], "There is no model ./nothing"),
        (["--data", "./nothing"], "There is no file or folder ./nothing"),
        (["--methods", "nobody:knows"], "There is no function nobody:knows"),
        (["--methods", "sdedit", "--strengths", "0.3"], "SDEdit of strength 0.3 takes none of 2 steps"),
        (["--judge-max-tokens", "0"], "--judge-max-tokens is at least 1"),
        (["--resolution", "0"], "--resolution is at least 1"),
        (["--methods", ","], "--methods is empty"),
        (["--base-guidance-scale", "nan"], "--base-guidance-scale is a number of 0 or more"),
        (["--seed", "-1"], "--seed is at least 0"),
        (["--judge", "some", "--base-url", "http://127.0.0.1:1/v1"], "--judge compares methods"),
    ],
)
def test_bad_input_is_a_sentence(wrong: list[str], told: str, ip2p: Ip2p) -> None:
    result = ip2p("evaluate", *SMALL, "--report", "out", *wrong)
    assert result.code == 1 and told in result.err and "Traceback" not in result.err
