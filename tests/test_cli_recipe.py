"""`ip2p recipe`: stages in their order, each once, and again only where its inputs changed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from cli_runner import Ip2p
from ip2p.commands import recipe
from ip2p.commands.recipe_overview import Row
from ip2p.commands.recipe_progress import Progress
from ip2p.commands.recipe_settings import RECIPES, load_recipe
from ip2p.commands.recipe_stages import inputs, outcome, stages_of
from safetensors.torch import load_file

pytest_plugins = ["cli_fixtures"]


def write(folder: Path, **sections: object) -> str:
    (folder / "mine.yaml").write_text(yaml.safe_dump(sections))
    return "mine.yaml"


INSTRUCTIONS = {"backend": "shapes", "num_captions": 20}


@pytest.mark.usefixtures("stages_here")
def test_stages_that_are_done_are_not_done_again_unless_what_goes_in_changed(ip2p: Ip2p, folder: Path) -> None:
    given = write(folder, **{"dataset instructions": INSTRUCTIONS})
    first = ip2p("recipe", given, "-o", "out")
    assert first.code == 0, first.err
    assert "instructions  done  triplets 20 of 20" in first.err
    again = ip2p("recipe", given, "-o", "out")
    assert "instructions  as before  triplets 20 of 20" in again.err and again.out == first.out
    write(folder, **{"dataset instructions": INSTRUCTIONS | {"num_captions": 21}})
    other = ip2p("recipe", given, "-o", "out")
    assert "instructions  done  triplets 21 of 21" in other.err
    assert len(list((folder / "out").glob("instructions-*/triplets.parquet"))) == 2


def test_the_time_of_a_stage_that_is_killed_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "NOTE_EVERY", 0.1)
    program = (
        "import sys, time\nfor _ in range(4): print('1%', file=sys.stderr, flush=True); time.sleep(0.2)\nsys.exit(1)"
    )
    row, place = Row("train"), tmp_path / "train-1"
    for least in (0.2, 0.8):
        row.begin(recipe.earlier(place))
        with pytest.raises(recipe.StageError, match="train could not be done"):
            recipe.follow([sys.executable, "-c", program], row, place)
        assert recipe.earlier(place) > least


@pytest.mark.usefixtures("stages_here")
def test_a_result_that_was_touched_is_made_again(ip2p: Ip2p, folder: Path) -> None:
    given = write(folder, **{"dataset instructions": INSTRUCTIONS})
    first = ip2p("recipe", given, "-o", "out")
    (triplets,) = (folder / "out").glob("instructions-*/triplets.parquet")
    triplets.unlink()
    again = ip2p("recipe", given, "-o", "out")
    assert "instructions  done" in again.err and again.out == first.out


def test_what_is_wrong_with_a_late_stage_is_told_before_the_first(ip2p: Ip2p, folder: Path) -> None:
    given = write(folder, **{"dataset instructions": INSTRUCTIONS, "train": {"model": "shapes", "steps": "many"}})
    result = ip2p("recipe", given, "-o", "out")
    assert result.code == 2 and "train.yaml: steps is a whole number, not" in result.err
    assert not list((folder / "out").glob("instructions-*"))


def test_a_stage_that_fails_tells_its_own_sentence(ip2p: Ip2p, folder: Path) -> None:
    """In a process of its own, as is usual."""
    given = write(folder, **{"dataset instructions": {"backend": "shapes", "captions": "nowhere"}})
    result = ip2p("recipe", given, "-o", "out")
    assert result.code == 1 and "The stage instructions could not be done: " in result.err and "nowhere" in result.err


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"bake": {}}, "has a section 'bake'"),
        ({"dataset pairs": {}}, "makes pairs of no triplets"),
        ({"processes": 0}, "processes is a whole number of at least 1"),
        ({"processes": True}, "processes is a whole number of at least 1"),
        ({"train": 3}, "mine.yaml: train is a section of settings, NAME: VALUE on a line each, not 3."),
        ({"train": None}, "train is a section of settings"),
        ({"train": {}, "smoke": 1}, "smoke in mine.yaml is a section of settings for each command, not 1."),
        ({"train": {}, "smoke": {"train": None}}, "smoke in mine.yaml: train is a section of settings"),
        ({"train": {}, "smoke": {"processes": "two"}}, "processes is a whole number of at least 1, not 'two'"),
        ({"train": {}, "smoke": {"distil": {}}}, "smoke in mine.yaml has a section 'distil', which the recipe lacks"),
        ({"package": {"where": "x"}}, "package takes to, dataset, base_model and license"),
        ({"package": {"to": "../x"}}, "a repository's id like user/name"),
        ({"package": {"to": 3}}, "to in the section package is a text, not 3."),
        ({"package": {"to": "me/it", "license": "apache2"}}, "knows no license apache2"),
        ({"package": {"to": "me/it"}, "evaluate": {}}, "has nothing to package"),
        ({}, "has no stage"),
    ],
)
def test_a_file_that_is_no_recipe_is_told(ip2p: Ip2p, folder: Path, sections: dict, told: str) -> None:
    given = write(folder, **sections)
    for flags in ([], ["--dry-run"], ["--smoke"] if "smoke" in sections else []):
        result = ip2p("recipe", given, "-o", "out", *flags)
        assert result.code == 1 and told in result.err, result.err


def test_an_unknown_name_and_a_missing_smoke_section_are_told(ip2p: Ip2p, folder: Path) -> None:
    assert "There is no recipe nonsense: give a YAML file, or one of emu-edit" in ip2p("recipe", "nonsense").err
    given = write(folder, **{"dataset instructions": INSTRUCTIONS})
    assert "has no smoke section" in ip2p("recipe", given, "--smoke").err


def hours_together(told: str) -> float:
    return float(told.splitlines()[-1].split()[1].replace(",", ""))


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.yaml"))])
def test_every_recipe_of_the_package_can_be_estimated(ip2p: Ip2p, name: str) -> None:
    result = ip2p("recipe", name, "--dry-run", "--rate", "100")
    assert result.code == 0, result.err
    assert "evaluations of the U-Net" in result.out and result.out.splitlines()[-1].startswith("together")
    hours = [hours_together(ip2p("recipe", name, "--dry-run", "--rate", rate).out) for rate in ("100", "200")]
    assert hours[0] == pytest.approx(2 * hours[1], rel=0.01, abs=0.02)


def test_a_teacher_whose_guidance_is_distilled_is_estimated_with_one_branch(ip2p: Ip2p, folder: Path) -> None:
    few = {"model": "shapes", "stage": "steps", "steps": 1000, "batch_size": 10, "resolution": 64}
    first = {"distil guidance": {"model": "shapes", "steps": 1}}
    told = [
        ip2p("recipe", write(folder, **before, distil=few), "--dry-run", "--rate", "100").out for before in ({}, first)
    ]
    assert "distil       70,000 evaluations" in told[0] and "distil       50,000 evaluations" in told[1]


def test_every_triplet_of_a_caption_counts_in_the_estimate(ip2p: Ip2p, folder: Path) -> None:
    def hours(**more: int) -> float:
        sections = {"dataset instructions": {"backend": "shapes", "num_captions": 100_000, **more}, "dataset pairs": {}}
        result = ip2p("recipe", write(folder, **sections), "--dry-run", "--rate", "100")
        assert result.code == 0, result.err
        return hours_together(result.out)

    assert hours(per_caption=3) == pytest.approx(3 * hours(), rel=1e-3)


def test_an_estimate_leaves_nothing_behind(ip2p: Ip2p, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert ip2p("recipe", "shapes", "--dry-run", "--rate", "100").code == 0
    assert not list(here.iterdir())


def test_inputs_differ_by_settings_results_and_processes() -> None:
    same = inputs({"steps": 1}, 1, {"pairs": "a"}, {"data 0": "a"}, "1")
    assert same == inputs({"steps": 1}, 1, {"pairs": "a"}, {"data 0": "a"}, "1")
    others = [
        inputs({"steps": 2}, 1, {"pairs": "a"}, {"data 0": "a"}, "1"),
        inputs({"steps": 1}, 2, {"pairs": "a"}, {"data 0": "a"}, "1"),
        inputs({"steps": 1}, 1, {"pairs": "b"}, {"data 0": "a"}, "1"),
        inputs({"steps": 1}, 1, {"pairs": "a"}, {"data 0": "b"}, "1"),
        inputs({"steps": 1}, 1, {"pairs": "a"}, {"data 0": "a"}, "2"),
    ]
    assert len({same, *others}) == 6


def test_an_outcome_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = outcome(tmp_path, ("*",))
    (tmp_path / "a").write_text("2")
    second = outcome(tmp_path, ("*",))
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, outcome(tmp_path, ("*",))}) == 3


def test_flags_of_earlier_stages_override_the_recipe() -> None:
    stage = next(each for each in stages_of(load_recipe("shapes", False)) if each.name == "evaluate")
    words = stage.argv({"train": Path("trained")}, Path("settings"), Path("out"), 2)
    assert words.index("--config") < words.index("--model") and str(Path("trained/pipeline")) in words
    assert "torch.distributed.run" in words


def test_a_progress_bar_is_read_and_messages_are_kept() -> None:
    progress = Progress()
    progress.read("ip2p: 3 rows are left out.\ntraining:  45%|████▌     | 90/200 [00:30<00:3")
    progress.read("7, 2.9step/s, loss=0.1]\rtraining:  50%|█████     | 100/200 [00:33<00:33, 3.0step/s]")
    assert progress.share == 0.5 and progress.text == "training 100/200, 00:33 left"
    assert progress.read("\n" + "a line of the launcher\n" * 40) == ["a line of the launcher"] * 40
    assert progress.told() == "3 rows are left out."


BORDER = "=" * 60
CHILD = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            ["note: this checkpoint has no safety checker", "Traceback", "RuntimeError: no kernel"],
            "RuntimeError: no kernel",
        ),
        (["[rank1]: torch.OutOfMemoryError: 2 GiB", CHILD, "exitcode  : 1 (pid: 2)"], "torch.OutOfMemoryError: 2 GiB"),
        (["exitcode  : -9 (pid: 12)", "exitcode  : -15 (pid: 13)"], "one of its processes was killed by signal 9."),
        (["ip2p: There is no room.", "ConnectionError: closed by peer"], "There is no room."),
        (["RuntimeError: no kernel", "Exception ignored in: <f>", "TypeError: None"], "RuntimeError: no kernel"),
        (["usage: ip2p"], "usage: ip2p"),
    ],
)
def test_why_a_stage_failed_is_found_in_what_its_launcher_says(said: list[str], told: str) -> None:
    progress = Progress()
    progress.read("\n".join([BORDER, *said, BORDER, ""]))
    assert progress.told() == told


def test_all_that_a_failed_stage_said_is_kept(tmp_path: Path) -> None:
    row, place = Row("train"), tmp_path / "train-1"
    row.begin(0)
    program = (
        "import sys; print('loading\\n50%|##| 1/2 [00:01<00:01]', file=sys.stderr); raise RuntimeError('no kernel')"
    )
    with pytest.raises(recipe.StageError, match=r"RuntimeError: no kernel\. All that it said is in .*train-1\.log"):
        recipe.follow([sys.executable, "-c", program], row, place)
    said = (tmp_path / "train-1.log").read_text()
    assert said.startswith("loading\n") and "Traceback" in said and "50%" not in said


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"train": {"data": "./pairs"}}, "There is no ./pairs, which the section train names as data."),
        ({"train": {"model": "/no/base"}}, "There is no /no/base, which the section train names as model."),
        ({"train": {}, "processes": 4}, "processes: 4, a GPU each for train, and this machine has 2"),
    ],
)  # fmt: skip
def test_what_a_late_stage_lacks_is_told_before_the_first(
    ip2p: Ip2p, folder: Path, section: dict, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    result = ip2p("recipe", write(folder, **{"dataset instructions": INSTRUCTIONS, **section}), "-o", "out")
    assert result.code == 1 and told in result.err
    assert not list((folder / "out").glob("instructions-*"))


@pytest.mark.usefixtures("stages_here")
def test_the_page_tells_no_address_of_a_service(ip2p: Ip2p, folder: Path) -> None:
    told = INSTRUCTIONS | {"base_url": "https://user:secret@host/v1"}
    result = ip2p("recipe", write(folder, **{"dataset instructions": told}))
    assert result.code == 0, result.err
    assert "secret" not in (folder / "recipe-mine" / "report.html").read_text()


@pytest.mark.slow
def test_the_whole_method_runs_stops_goes_on_and_every_stage_learns(tmp_path: Path) -> None:
    """On two cores and by the small form of the recipe that is shipped."""
    command = [sys.executable, "-m", "ip2p.cli", "recipe", "shapes", "--smoke", "-o", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    while not list(tmp_path.glob("out/train-*/log.jsonl")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    assert "stopped: what is done is in" in process.communicate()[1] and process.returncode == 130

    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "pairs  as before" in result.stderr and "train  done" in result.stderr
    notes = {path.name.partition("-")[0]: json.loads(path.read_text()) for path in tmp_path.glob("out/*-*.json")}
    assert set(notes) == {stage.name for stage in stages_of(load_recipe("shapes", True))} | {"package"}
    kept, drawn = (int(word) for word in notes["pairs"]["figures"]["pairs"].split(" of "))
    assert 0.3 < kept / drawn < 0.95  # the filter keeps most, and not all
    first, last = (float(word) for word in notes["train"]["figures"]["loss"].split(" → "))
    assert last < 0.75 * first
    assert {"ip2p, right by the oracle", "SDEdit, right by the oracle"} <= notes["evaluate"]["figures"].keys()
    for name in ("guidance", "distil"):
        validated = next(tmp_path.glob(f"out/{name}-*/validation.jsonl")).read_text().splitlines()
        first, *_, last = (json.loads(line)["validation_loss"] for line in validated)
        assert last < 0.99 * first
    index = json.loads(next(tmp_path.glob("out/package-*/distilled/model_index.json")).read_text())
    assert index["scheduler"][1] == "LCMScheduler"  # few steps, as the recipe itself has them
    distilled = load_file(next(tmp_path.glob("out/package-*/distilled/unet/*.safetensors")))
    assert distilled["time_embedding.cond_proj.weight"].abs().max() > 0  # it was zero, and then no dial counts
    packed = next(tmp_path.glob("out/package-*/editor"))
    assert {"model_index.json", "README.md", "pipeline.py"} <= {path.name for path in packed.iterdir()}
    assert "data:image/png" in (tmp_path / "out" / "report.html").read_text()
