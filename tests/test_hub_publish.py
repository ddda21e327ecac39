"""`ip2p hub publish`: exactly what is listed, with a card that validates, also after a broken upload."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from distilled_models import distilled
from hub_fixtures import HubHere, a_hub, hub_of_module  # noqa: F401 - fixtures
from huggingface_hub import DatasetCard, ModelCard
from ip2p import SHAPES_MODEL
from pairs_data import make_run
from PIL import Image
from tiny_models import lora, sd_pipeline, sdxl_pipeline

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A pipeline's folder with things that must not go out."""
    folder = tmp_path / "model"
    sd_pipeline().save_pretrained(folder)
    (folder / "optimizer.bin").write_bytes(b"state")
    (folder / ".token").write_text("hf_secret")
    (folder / "unet" / "notes.py").write_text("print('mine')")
    (folder / "pipeline.py").write_text("raise SystemExit('not ours')")
    (folder / "cache").mkdir()
    (folder / "cache" / "latents.safetensors").write_bytes(b"x")
    return folder


def pairs(folder: Path) -> Path:
    """A small dataset, made as the image stage makes one."""
    with make_run(folder, 4):
        pass
    return folder


def card(hub: HubHere, repo: str = "me/it") -> ModelCard:
    return ModelCard(hub.get_text(f"/{repo}/resolve/main/README.md"))


def publish(hub: HubHere, folder: Path, *flags: object, **more: Any) -> tuple[int, str, str]:
    return hub.ip2p("hub", "publish", folder, "--to", "me/it", *flags, **more)


def test_the_card_of_a_distilled_model_does_not_send_people_to_stock(hub: HubHere, tmp_path: Path) -> None:
    distilled().save_pretrained(tmp_path / "model")
    assert publish(hub, tmp_path / "model", "--license", "mit")[0] == 0
    text = str(card(hub))
    assert "`guidance_scale` 1 to 10 and `image_guidance_scale` 0.5 to 3" in text
    assert "custom_pipeline=repo" in text and "import StableDiffusion" not in text


def test_only_what_is_listed_goes_out(hub: HubHere, model: Path) -> None:
    code, listed, _ = publish(hub, model, "--license", "mit", "--dry-run")
    assert code == 0
    names = [line.split("  ")[0] for line in listed.splitlines() if line.endswith(" bytes") and "files," not in line]
    code, address, err = publish(hub, model, "--license", "mit")
    assert code == 0, err
    assert "/me/it/commit/" in address
    published = hub.files("me/it")
    assert sorted(published) == sorted(names)
    assert {"README.md", "model_index.json", "pipeline.py", "guidance.py", WEIGHTS} <= set(published)
    assert not {"optimizer.bin", ".token", "unet/notes.py", "cache/latents.safetensors"} & set(published)
    assert "not ours" not in hub.get_text("/me/it/resolve/main/pipeline.py")
    assert hub_secret_is_nowhere(address, listed)


def test_the_folder_that_a_part_came_from_stays_private(hub: HubHere, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "named")
    path = tmp_path / "named" / "unet" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"_name_or_path": "/home/secret/base"}))
    code, _, err = publish(hub, tmp_path / "named", "--license", "mit")
    assert code == 0, err
    published = json.loads(hub.get_text("/me/it/resolve/main/unet/config.json"))
    assert published == {name: value for name, value in config.items() if name != "_name_or_path"}
    assert "secret" in path.read_text()


def hub_secret_is_nowhere(*texts: str) -> bool:
    return not any("secret" in text for text in texts)


def test_a_dry_run_sends_nothing_to_the_hub(hub: HubHere, model: Path) -> None:
    code, out, _ = publish(hub, model, "--license", "mit", "--dry-run", token=None)
    assert code == 0 and "# it" in out
    assert publish(hub, SHAPES_MODEL, "--dry-run", token=None)[0] == 0  # which has a card of its own
    assert hub.get("/_log") == []
    with pytest.raises(Exception, match="404"):
        hub.files("me/it")


def test_a_training_run_tells_its_card(hub: HubHere, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(model, run / "pipeline")
    settings = {
        "model": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "data": "timbrooks/instructpix2pix-clip-filtered",
    }
    settings |= {
        "lora_rank": 64,
        "drop_text": 0.05,
        "steps": 15000,
        "batch_size": 1024,
        "learning_rate": 1e-4,
        "train": "full",
    }
    (run / "settings.json").write_text(json.dumps(settings))
    (run / "validation").mkdir()
    for step in (1, 2):
        Image.new("RGB", (8 * step, 8)).save(run / "validation" / f"step-{step:08d}.png")
    (run / "model.safetensors").write_bytes(b"single file")
    report = tmp_path / "report"
    report.mkdir()
    score = {"mean": 0.2345678, "low": 0.2, "high": 0.25}
    points = [
        {
            "method": "ip2p",
            "setting": {"guidance_scale": 7.5, "image_guidance_scale": s},
            "scores": {"directional_similarity": {**score, "mean": s}},
        }
        for s in (1.0, 1.6, 2.2)
    ]
    told = {"points": points, "samples": 500, "about": {"settings": {"data": "osunlp/MagicBrush"}}}
    (report / "report.json").write_text(json.dumps(told))
    code, _, err = publish(hub, run, "--evaluation", report, "--fp16")
    assert code == 0, err
    written = card(hub)
    assert written.data.license == "creativeml-openrail-m"
    assert written.data.base_model == settings["model"]
    assert written.data.datasets == [settings["data"]]
    [result] = written.data.eval_results
    assert (result.metric_type, result.metric_value) == ("directional_similarity", 1.6)  # nearest to the usual 1.5
    assert result.dataset_name == "osunlp/MagicBrush"
    assert "| steps | 15000 |" in written.text and "| share without instruction | 0.05 |" in written.text
    assert "rank" not in written.text and "![Pictures before" in written.text
    files = hub.files("me/it")
    assert {"examples.png", "it.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"} <= set(files)
    assert 'variant="fp16"' in written.text


def test_a_lora_goes_out_alone(hub: HubHere, tmp_path: Path) -> None:
    folder = lora(sd_pipeline, tmp_path / "lora")
    code, _, err = publish(hub, folder, "--base-model", "timbrooks/instruct-pix2pix")
    assert code == 0, err
    assert sorted(hub.files("me/it")) == ["README.md", "pytorch_lora_weights.safetensors"]
    assert card(hub).data.license == "mit"
    assert card(hub).text.count('load_lora_weights("me/it")') == 2  # by diffusers, by ours


def lora_run(folder: Path, make: Any, base: str) -> Path:
    """A run that trained a LoRA."""
    make().save_pretrained(folder / "pipeline")
    lora(make, folder / "lora")
    (folder / "settings.json").write_text(json.dumps({"model": base, "train": "lora"}))
    return folder


def test_the_lora_of_a_widened_model_is_refused(hub: HubHere, tmp_path: Path) -> None:
    run = lora_run(tmp_path / "run", sd_pipeline, "shapes")
    code, _, err = publish(hub, run, "--what", "lora", "--license", "apache-2.0")
    assert code == 1 and "fits no model that others have" in err and "without --what lora" in err
    assert publish(hub, run, "--license", "apache-2.0")[0] == 0


def test_the_card_of_an_sdxl_lora_names_its_class(hub: HubHere, tmp_path: Path) -> None:
    base = tmp_path / "base"
    sdxl_pipeline().save_pretrained(base)
    run = lora_run(tmp_path / "run", sdxl_pipeline, str(base))
    code, _, err = publish(hub, run, "--what", "lora", "--license", "mit")
    assert code == 0, err
    assert "StableDiffusionXLInstructPix2PixPipeline.from_pretrained(" in card(hub).text


def test_a_dataset_is_ready_to_stream(hub: HubHere, tmp_path: Path) -> None:
    folder = pairs(tmp_path / "pairs")
    code, _, err = publish(hub, folder, "--license", "cc-by-4.0")
    assert code == 0, err
    written = DatasetCard(hub.get_text("/datasets/me/it/resolve/main/README.md"))
    assert written.data.license == "cc-by-4.0"
    assert "--dataset_name me/it" in written.text and 'load_dataset("me/it"' in written.text
    told = hub.python(
        "from datasets import load_dataset\n"
        "row = next(iter(load_dataset('me/it', split='train', streaming=True)))\n"
        "print(row['edit_prompt'], row['original_image'].size)"
    )
    assert told.strip()


def test_a_card_that_somebody_wrote_stays(hub: HubHere) -> None:
    code, _, err = publish(hub, SHAPES_MODEL)
    assert code == 0, err
    assert hub.get_text("/me/it/resolve/main/README.md") == (SHAPES_MODEL / "README.md").read_text()


def test_a_card_that_the_hub_refuses_is_told_before_anything_is_sent(hub: HubHere, model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: mit\ntags: [1, 2]\n---\n# Mine\n")
    code, _, err = publish(hub, model)
    assert code == 1 and '"tags" must be strings' in err.replace("\\", "") and "Traceback" not in err
    assert hub.get("/_log") == []


@pytest.mark.parametrize("make", [lambda folder: sd_pipeline().save_pretrained(folder), pairs])
def test_metadata_that_is_no_yaml_is_told(hub: HubHere, tmp_path: Path, make: Any) -> None:
    make(tmp_path / "it")
    (tmp_path / "it" / "README.md").write_text("---\nlicense: mit\ntitle: My model: v2\n---\n# Mine\n")
    code, _, err = publish(hub, tmp_path / "it")
    assert code == 1 and "README.md begins with metadata that can't be read" in err and "Traceback" not in err


def test_branches_and_pull_requests(hub: HubHere, model: Path) -> None:
    assert publish(hub, model, "--license", "mit", "--branch", "next")[0] == 0
    assert "model_index.json" in hub.files("me/it", revision="next")
    assert "model_index.json" not in hub.files("me/it")
    code, address, _ = publish(hub, model, "--license", "mit", "--pr")
    assert code == 0 and address.strip().endswith("/me/it/discussions/1")
    assert "model_index.json" not in hub.files("me/it")


def test_what_an_earlier_publication_left_in_its_folders_goes(hub: HubHere, tmp_path: Path) -> None:
    folder = pairs(tmp_path / "pairs")
    shutil.copy(folder / "data" / "train-00000.parquet", folder / "data" / "train-00001.parquet")
    assert publish(hub, folder, "--license", "mit")[0] == 0
    (folder / "data" / "train-00001.parquet").unlink()
    assert publish(hub, folder, "--license", "mit")[0] == 0
    assert [name for name in hub.files("me/it", "datasets") if name.startswith("data/")] == ["data/train-00000.parquet"]


def test_a_killed_upload_goes_on(hub: HubHere, model: Path) -> None:
    hub.post("/_control", {"delay": 0.05})
    process = hub.start("hub", "publish", model, "--to", "me/it", "--license", "mit")
    while not any(entry["bytes"] for entry in hub.get("/_log")):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sent = hub.get("/_log")
    assert publish(hub, model, "--license", "mit")[0] == 0
    whole = {entry["oid"] for entry in sent if entry["whole"]}
    again = [entry["oid"] for entry in hub.get("/_log")[len(sent) :]]
    assert not whole & set(again)
    files = hub.files("me/it")
    hub.forget()
    assert publish(hub, model, "--license", "mit")[0] == 0
    assert hub.files("me/it") == files


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"path": "preupload", "status": 403}, "may not do this with me/it"),
        ({"path": "commit", "status": 429}, "asks to wait"),
        ({"path": "commit", "status": 500}, "trouble of its own"),
    ],
)
def test_the_hubs_refusals_are_told(hub: HubHere, model: Path, fault: dict[str, Any], sentence: str) -> None:
    hub.post("/_control", {"faults": [{**fault, "times": 100}]})
    code, out, err = publish(hub, model, "--license", "mit")
    assert (code, out) == (1, "")
    assert sentence in err.splitlines()[-1] and "Traceback" not in err and "secret" not in err


def test_without_a_token_it_says_how_to_log_in(hub: HubHere, model: Path) -> None:
    code, _, err = publish(hub, model, "--license", "mit", token=None)
    assert code == 1 and "hf auth login" in err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "say it with --license"),
        (["--base-model", "stabilityai/stable-diffusion-xl-base-1.0", "--license", "mit"], "keep its restrictions"),
        (
            ["--license", "apache2"],
            "no license apache2, for others it has the name other. Meant was perhaps apache-2.0",
        ),
        (["--license", "mit", "--evaluation", "nowhere"], "no report of `ip2p evaluate`"),
        (["--license", "mit", "--example", "nowhere.png"], "no picture nowhere.png"),
        (["--license", "mit", "--to", "not/a/repo"], "repository's id like user/name"),
    ],
)
def test_bad_requests_are_told_before_anything_is_sent(
    hub: HubHere, model: Path, flags: list[str], sentence: str
) -> None:
    code, _, err = publish(hub, model, *flags)
    assert code == 1 and sentence in err
    assert hub.get("/_log") == []


def test_folders_that_are_nothing_are_told(hub: HubHere, tmp_path: Path) -> None:
    assert "no folder" in publish(hub, tmp_path / "nowhere")[2]
    (tmp_path / "empty").mkdir()
    assert "nothing that can be published" in publish(hub, tmp_path / "empty")[2]


def test_links_out_of_the_folder_are_refused(hub: HubHere, model: Path, tmp_path: Path) -> None:
    (tmp_path / "private.json").write_text("{}")
    (model / "unet" / "link.json").symlink_to(tmp_path / "private.json")
    code, _, err = publish(hub, model, "--license", "mit")
    assert code == 1 and "link to another place" in err
