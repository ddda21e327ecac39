"""`ip2p recipe` where what goes in changed its content, and where its folder lies elsewhere than before."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runner import Ip2p
from finetune_data import write_pairs
from huggingface_hub import ModelCard
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.commands.recipe_settings import Recipe
from ip2p.commands.recipe_stages import Stage, content_of, contents, deciding, stages_of
from ip2p.training.distill.settings import DistilSettings
from ip2p.training.evaluate.settings import EvaluateSettings
from ip2p.training.finetune.settings import FinetuneSettings
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.shapes.models import SHAPES_BASE, SHAPES_CLIP
from pairs_data import edits, picture
from pairs_models import base_pipeline

pytest_plugins = ["cli_fixtures"]
TINY = {
    "resolution": 32, "resize_max": 32, "steps": 2, "batch_size": 2, "held_out": 2, "validate_every": 0,
    "tracker": "none", "cpu": True,
}  # fmt: skip


def write(folder: Path, **sections: object) -> str:
    (folder / "mine.yaml").write_text(yaml.safe_dump(sections))
    return "mine.yaml"


def stage(name: str) -> Stage:
    """One of a recipe with all stages."""
    sections: dict[str, dict[str, Any]] = {
        name: {} for name in ("dataset instructions", "dataset pairs", "train", "evaluate", "distil guidance", "distil")
    }
    return next(each for each in stages_of(Recipe("mine", sections, 1, None)) if each.name == name)


@pytest.mark.usefixtures("stages_here")
def test_a_stage_is_done_again_where_a_file_that_it_reads_was_replaced(ip2p: Ip2p, folder: Path) -> None:
    captions = [edit.original_prompt for edit in edits(30)]
    section = {"backend": "shapes", "captions": "captions.txt", "num_captions": 5}
    given = write(folder, **{"dataset instructions": section})
    told = []
    for lines in (captions, captions, captions[15:]):
        Path("captions.txt").write_text("\n".join(lines))
        result = ip2p("recipe", given, "-o", "out")
        assert result.code == 0, result.err
        told.append("as before" in result.err)
    assert told == [False, True, False]
    assert len(list(Path("out").glob("instructions-*/triplets.parquet"))) == 2


def test_files_and_folders_are_known_by_their_content(folder: Path) -> None:
    Path("editor").mkdir()
    Path("editor/unet").write_text("1")
    Path("pairs.csv").write_text("before,after,instruction\na.png,b.png,redder\n")
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(picture(0))
    settings = DistilSettings(model="editor", data="pairs.csv", vae="user/vae")
    found = contents(stage("distil"), settings, {})
    assert found.pop("data 0, pictures") != contents_after(Path("b.png"), settings)
    assert found == {"model 0": content_of(Path("editor")), "data 0": content_of(Path("pairs.csv"))}
    Path("editor/unet").rename("editor/vae")
    assert contents(stage("distil"), settings, {})["model 0"] != found["model 0"]
    Path("pairs.csv").write_text("before,after,instruction\na.png,b.png,bluer\n")
    assert contents(stage("distil"), settings, {})["data 0"] != found["data 0"]
    assert contents(stage("distil"), settings, {"train": Path("a"), "pairs": Path("b")}) == {}  # they stand in for both
    named = EvaluateSettings(model=["user/editor", "mine=editor"], data="pairs.csv")
    assert set(contents(stage("evaluate"), named, {})) == {"model 1", "data 0", "data 0, pictures"}


def contents_after(changed: Path, settings: Any) -> str:
    """The hash of a CSV file's pictures, where one of them is another."""
    changed.write_bytes(picture(1))
    return contents(stage("distil"), settings, {})["data 0, pictures"]


def test_weights_of_clip_are_known_by_their_content_in_both_forms(folder: Path) -> None:
    Path("clip").mkdir()
    for path in (Path("clip/open_clip_model.safetensors"), Path("weights.safetensors")):
        path.write_text("1")
    named = EvaluateSettings(clip_model="local-dir:clip", clip_pretrained="weights.safetensors", base="user/base")
    found = contents(stage("evaluate"), named, {"train": Path("a")})
    assert found == {
        "clip_model 0": content_of(Path("clip")),
        "clip_pretrained 0": content_of(Path("weights.safetensors")),
    }


def test_the_models_inside_the_package_are_known_by_their_content() -> None:
    base, clip, editor = map(content_of, (SHAPES_BASE, SHAPES_CLIP, SHAPES_MODEL))
    drawn = MakerSettings(model="shapes", clip_model="shapes")
    assert contents(stage("pairs"), drawn, {"instructions": Path("triplets")}) == {
        "model 0": base,
        "clip_model 0": clip,
    }
    assert contents(stage("train"), FinetuneSettings(model="shapes"), {}) == {"model 0": base}
    for name in ("guidance", "distil"):
        assert contents(stage(name), DistilSettings(model="shapes"), {}) == {"model 0": editor}
    evaluated = EvaluateSettings(base="shapes")
    assert contents(stage("evaluate"), evaluated, {}) == {"base 0": base, "model 0": editor}


@pytest.mark.usefixtures("stages_here")
def test_answers_that_were_paid_for_are_taken_over_where_other_settings_ask_for_them(ip2p: Ip2p, folder: Path) -> None:
    Path("captions.txt").write_text("\n".join(edit.original_prompt for edit in edits(30)))
    section = {"backend": "shapes", "captions": "captions.txt", "num_captions": 5}
    for words in (30, 29, 30):
        given = write(folder, **{"dataset instructions": section | {"max_instruction_words": words}})
        result = ip2p("recipe", given, "-o", "out")
        assert result.code == 0, result.err
        answers = [path for path in Path("out").glob("instructions-*/answers/*.jsonl") if path.stat().st_size]
        assert len(answers) == 1 and len(answers[0].read_text().splitlines()) == 5
    assert len(list(Path("out").glob("instructions-*/triplets.parquet"))) == 2


@pytest.mark.usefixtures("stages_here")
def test_what_was_begun_goes_on_in_a_folder_that_was_moved_and_is_packed_without_a_license_of_its_own(
    ip2p: Ip2p, folder: Path
) -> None:
    base_pipeline().save_pretrained(folder / "base")
    (folder / "base" / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n# Base\n")
    write_pairs(folder / "pairs.parquet", 8)
    given = write(
        folder,
        train={"model": "base", "data": "pairs.parquet", **TINY},
        distil={"data": "pairs.parquet", **TINY},
        package={"to": "me/it"},
    )
    first = ip2p("recipe", given, "-o", "out")
    assert first.code == 0, first.err
    for name in ("editor", "distilled"):
        (card,) = Path("out").glob(f"package-*/{name}/README.md")
        assert ModelCard.load(card).data.license == "creativeml-openrail-m"
        assert "a model trained from `base`" in card.read_text()

    (note,) = Path("out").glob("distil-*.json")
    note.unlink()  # as where it was killed before its end was noted
    Path("out").rename("moved")
    again = ip2p("recipe", given, "-o", Path("moved").absolute())
    assert again.code == 0, again.err
    assert "train  as before" in again.err and "distil  done" in again.err
    assert "package  as before" in again.err  # the result is the same, and does not tell where it lies


@pytest.mark.usefixtures("stages_here")
def test_guidance_is_distilled_first_of_an_editor_that_is_given_and_few_steps_of_what_comes_of_it(
    ip2p: Ip2p, folder: Path
) -> None:
    editor = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    editor.save_pretrained(folder / "editor")
    (folder / "editor" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Editor\n")
    write_pairs(folder / "pairs.parquet", 8)
    ranges = {"guidance_scales": [0.5, 2], "image_guidance_scales": [0.5, 1.5]}
    given = write(
        folder,
        **{
            "distil guidance": {"model": "editor", "data": "pairs.parquet", **ranges, **TINY},
            "distil": {"model": "not there", "data": "pairs.parquet", "segments": 4, **TINY},
            "package": {"to": "me/it"},
        },
    )
    result = ip2p("recipe", given, "-o", "out")
    assert result.code == 0, result.err
    (guided,) = Path("out").glob("guidance-*/pipeline")
    index = json.loads((guided / "model_index.json").read_text())
    assert index["distilled_scales"] == {"guidance_scale": [0.5, 2.0], "image_guidance_scale": [0.5, 1.5]}
    (packed,) = Path("out").glob("package-*/distilled")
    few = json.loads((packed / "model_index.json").read_text())
    assert few["scheduler"][1] == "LCMScheduler" and few["distilled_scales"] == index["distilled_scales"]
    card = ModelCard.load(packed / "README.md")
    assert card.data.license == "apache-2.0" and "`editor`" in card.text
    assert "guided" not in card.text and str(guided) not in card.text


def test_limits_and_how_work_is_shared_out_leave_what_is_done_where_it_is() -> None:
    section = {"num_captions": 5, "max_requests": 500, "price_prompt": 1.0}
    assert deciding(stage("instructions"), section, {}) == {"num_captions": 5}
    drawn = {"steps": 10, "engine": "ray", "workers": 2, "batch_size": 64}
    assert deciding(stage("pairs"), drawn, {"instructions": Path("a")}) == {"steps": 10}
    trained = {"steps": 5, "save_every": 2, "tracker": "none", "data": "elsewhere", "publish": "best"}
    assert deciding(stage("train"), trained, {"pairs": Path("b")}) == {"steps": 5, "publish": "best"}
    assert deciding(stage("train"), trained, {}) == {"steps": 5, "publish": "best", "data": "elsewhere"}
    judged = {"judge": "gpt", "max_requests": 5, "price_prompt": 1.0, "batch_size": 2, "seeds": 3}
    assert deciding(stage("evaluate"), judged, {"train": Path("a")}) == {"judge": "gpt", "seeds": 3}
    saving = {"gradient_checkpointing": True, "compile": True, "cache": True, "learning_rate": 1e-4}
    assert deciding(stage("distil"), saving, {"pairs": Path("b")}) == {"cache": True, "learning_rate": 1e-4}


def test_functions_of_the_users_own_are_known_by_their_content(folder: Path) -> None:
    settings = EvaluateSettings(methods=["editors.mine:edit", "ip2p"])
    assert contents(stage("evaluate"), settings, {"train": Path("a")}) == {}
    Path("editors").mkdir()
    told = []
    for text in ("1", "2"):
        Path("editors/mine.py").write_text(text)
        told.append(contents(stage("evaluate"), settings, {"train": Path("a")})["editors.mine:edit"])
    assert told[0] != told[1]


def test_what_guidance_is_distilled_of_and_what_few_steps() -> None:
    places = {"train": Path("t"), "guidance": Path("g"), "pairs": Path("p")}
    of = {name: stage(name).overridden({n: places[n] for n in stage(name).needs}) for name in ("guidance", "distil")}
    assert of["guidance"] == {"model": "t/pipeline", "data": "p", "stage": "guidance"}
    assert of["distil"] == {"model": "g/pipeline", "data": "p", "stage": "steps"}
    del places["guidance"]
    assert stage("distil").overridden(places) == {"model": "t/pipeline", "data": "p"}


def test_a_license_that_cant_be_is_told_before_the_first_stage(ip2p: Ip2p, folder: Path) -> None:
    sections = {"dataset instructions": {"backend": "shapes", "num_captions": 5}, "train": {"model": "nowhere/base"}}
    Path("nowhere/base").mkdir(parents=True)
    for package, told in (
        ({"to": "me/it"}, "say it with license in the section package"),
        ({"to": "me/it", "base_model": "runwayml/stable-diffusion-v1-5", "license": "mit"}, "keep its restrictions"),
    ):
        result = ip2p("recipe", write(folder, **sections, package=package), "-o", "out")
        assert result.code == 1 and told in result.err
    assert not list(Path("out").glob("instructions-*"))
