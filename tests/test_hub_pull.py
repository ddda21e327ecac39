"""`ip2p hub pull`: whole, checked, without pickles or code, and back where it was after a broken download."""

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_fixtures import HubHere, a_hub, hub_of_module  # noqa: F401 - fixtures
from hub_hostile import HOSTILE, Hostile
from ip2p import SHAPES_MODEL
from ip2p.hub.pull import Remote, is_there
from ip2p.hub.settings import PullSettings
from pairs_data import make_run
from tiny_models import lora, sd_pipeline

HF = (sys.executable, "-m", "huggingface_hub.cli.hf")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def kept(hub_of_module: HubHere) -> tuple[Any, Path]:  # noqa: F811 - a fixture
    """A Hub's repositories and their files, once the shapes model is published there in two precisions."""
    hub_of_module.forget()
    assert hub_of_module.ip2p("hub", "publish", SHAPES_MODEL, "--to", "me/it", "--fp16")[0] == 0
    files = shutil.copytree(hub_of_module.folder / "hub" / "objects", hub_of_module.folder / "kept")
    return hub_of_module.get("/_repos"), files


@pytest.fixture
def published(kept: tuple[Any, Path], hub: HubHere) -> HubHere:
    """A Hub with the shapes model, in two precisions."""
    repositories, files = kept
    shutil.copytree(files, hub.folder / "hub" / "objects", dirs_exist_ok=True)
    hub.post("/_repos", repositories)
    return hub


def pulled(hub: HubHere, *flags: object, repo: str = "me/it", **more: Any) -> Path:
    code, out, err = hub.ip2p("hub", "pull", repo, *flags, **more)
    assert code == 0, err
    return Path(out.splitlines()[-1])


def refused(hub: HubHere, *flags: object, repo: str = "me/it", **more: Any) -> str:
    code, _, err = hub.ip2p("hub", "pull", repo, *flags, **more)
    assert code == 1 and "Traceback" not in err
    return err.splitlines()[-1]


def names(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if path.parts[0] != ".cache"}


def test_a_pipeline_comes_into_a_folder_byte_for_byte(published: HubHere, tmp_path: Path) -> None:
    folder = pulled(published, "--output", tmp_path / "got")
    assert folder == tmp_path / "got"
    for name in names(SHAPES_MODEL):
        assert (folder / name).read_bytes() == (SHAPES_MODEL / name).read_bytes()
    assert not [name for name in names(folder) if name.endswith(".py") or "fp16" in name]


def test_a_variant_comes_instead_of_the_full_weights(published: HubHere, tmp_path: Path) -> None:
    weights = {
        name for name in names(pulled(published, "--variant", "fp16", "--output", tmp_path)) if "safetensors" in name
    }
    assert weights and all(".fp16." in name for name in weights)
    assert "no variant bf16" in refused(published, "--variant", "bf16")


def test_code_comes_only_where_it_is_trusted_and_is_shown(published: HubHere, tmp_path: Path) -> None:
    code, out, _ = published.ip2p("hub", "pull", "me/it", "--trust-remote-code", "--output", tmp_path)
    assert code == 0
    assert "Code of me/it at" in out and "  pipeline.py  " in out
    assert out.count(", the same as in this ip2p") == out.count(".py  ")
    assert (tmp_path / "pipeline.py").is_file()


def test_the_cache_serves_offline_and_says_what_it_lacks(published: HubHere) -> None:
    assert "not in the Hub's cache" in refused(published, "--offline")
    folder = pulled(published)
    assert pulled(published, "--offline") == folder
    program = "from diffusers import DiffusionPipeline as P; print(P.from_pretrained('me/it').unet.config.in_channels)"
    assert published.python(program, offline=True).strip() == "8"
    assert "leave --output" in refused(published, "--offline", "--output", "got")
    (folder / WEIGHTS).unlink()
    assert "not whole in the Hub's cache" in refused(published, "--offline")


def test_the_cache_serves_offline_what_diffusers_began_to_fetch(published: HubHere) -> None:
    published.python("from diffusers import DiffusionPipeline as P; P.from_pretrained('me/it')")
    folder = pulled(published)
    assert pulled(published, "--offline") == folder


def test_a_card_in_the_cache_is_no_model(published: HubHere) -> None:
    published.python("from huggingface_hub import ModelCard; ModelCard.load('me/it')")
    assert "not in the Hub's cache" in refused(published, "--offline")


def test_what_is_there_needs_no_more_room(tmp_path: Path) -> None:
    file, settings = Remote("it.safetensors", 100, None, ""), PullSettings(repo="me/it")
    assert not is_there(file, settings, "model", "main", tmp_path)
    (tmp_path / file.name).write_bytes(b"x" * 100)
    assert is_there(file, settings, "model", "main", tmp_path)
    assert not is_there(replace(file, size=101), settings, "model", "main", tmp_path)


def test_what_is_there_is_not_fetched_again(published: HubHere) -> None:
    pulled(published)
    fetched = len(published.get("/_log"))
    pulled(published)
    assert len(published.get("/_log")) == fetched


def test_revisions(published: HubHere, tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path / "other")
    assert (
        published.ip2p("hub", "publish", tmp_path / "other", "--to", "me/it", "--license", "mit", "--branch", "next")[0]
        == 0
    )
    folder = pulled(published, "--revision", "next", "--output", tmp_path / "got")
    assert (folder / WEIGHTS).read_bytes() == (tmp_path / "other" / WEIGHTS).read_bytes()
    assert "no such revision" in refused(published, "--revision", "nowhere")


def test_loras_and_pipelines_find_their_place_in_comfyui(published: HubHere, tmp_path: Path) -> None:
    (tmp_path / "ComfyUI" / "models").mkdir(parents=True)
    folder = lora(sd_pipeline, tmp_path / "lora")
    assert published.ip2p("hub", "publish", folder, "--to", "me/style", "--license", "mit")[0] == 0
    assert pulled(published, "--comfyui", tmp_path / "ComfyUI") == tmp_path / "ComfyUI/models/diffusers/it"
    assert (
        pulled(published, "--comfyui", tmp_path / "ComfyUI", repo="me/style") == tmp_path / "ComfyUI/models/loras/style"
    )
    assert "is no ComfyUI" in refused(published, "--comfyui", tmp_path)


def test_datasets(hub: HubHere, tmp_path: Path) -> None:
    make_run(tmp_path / "pairs", 4)
    assert hub.ip2p("hub", "publish", tmp_path / "pairs", "--to", "me/pairs", "--license", "mit")[0] == 0
    folder = pulled(hub, "--output", tmp_path / "got", repo="me/pairs")
    data = "data/train-00000.parquet"
    assert (folder / data).read_bytes() == (tmp_path / "pairs" / data).read_bytes()
    cached = pulled(hub, repo="me/pairs")
    assert pulled(hub, "--offline", repo="me/pairs") == cached


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_repositories_are_refused(hub: HubHere, tmp_path: Path, what: str) -> None:
    HOSTILE[what].put(hub)
    before = set(tmp_path.rglob("*"))
    assert HOSTILE[what].sentence in refused(hub, "--output", tmp_path / "got", repo="me/bad")
    assert not [path for path in set(tmp_path.rglob("*")) - before if "got" not in path.parts]
    assert not [path for path in (tmp_path / "got").rglob("*") if path.suffix in (".bin", ".py", ".sh", ".csv")]
    if "arrive" in HOSTILE[what].sentence:
        assert names(tmp_path / "got") == set()


def test_pickles_scripts_and_hidden_files_stay_there(hub: HubHere, tmp_path: Path) -> None:
    lora_alone = "pytorch_lora_weights.safetensors"
    rest = {
        "optimizer.bin": b"pickle",
        "run.sh": b"rm",
        ".git/config.json": b"{}",
        ".env.json": b"{}",
        "x.py": b"raise",
    }
    Hostile({lora_alone: b"x", **rest}, "").put(hub)
    code, out, _ = hub.ip2p("hub", "pull", "me/bad", "--output", tmp_path / "got")
    assert code == 0 and "has code, x.py and the like, which stays there" in out
    assert names(tmp_path / "got") == {lora_alone}


def test_a_single_file_beside_a_pipelines_folders_stays_there(hub: HubHere, tmp_path: Path) -> None:
    whole = {path: (SHAPES_MODEL / path).read_bytes() for path in names(SHAPES_MODEL)}
    Hostile({**whole, "it.safetensors": b"the same once more"}, "").put(hub)
    assert names(pulled(hub, "--output", tmp_path, repo="me/bad")) == set(whole)


def test_what_is_not_there_is_told(hub: HubHere) -> None:
    assert "no me/it on the Hub" in refused(hub)


def test_a_private_repository_is_for_its_token(hub: HubHere, tmp_path: Path) -> None:
    folder = lora(sd_pipeline, tmp_path / "lora")
    flags = ("--to", "me/mine", "--license", "mit", "--private")
    assert hub.ip2p("hub", "publish", folder, *flags)[0] == 0
    told = refused(hub, repo="me/mine", token=None)
    assert "or it is private" in told and "hf auth login" in told
    assert names(pulled(hub, "--output", tmp_path / "got", repo="me/mine")) == {
        "README.md",
        "pytorch_lora_weights.safetensors",
    }


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "hf auth login"), (403, "may not"), (429, "asks to wait"), (503, "trouble of its own")],
)
def test_the_hubs_refusals_are_told(published: HubHere, status: int, sentence: str) -> None:
    published.post("/_control", {"faults": [{"path": "/api/models/me/it", "status": status, "times": 100}]})
    assert sentence in refused(published)


def test_hf_download_gets_the_same(published: HubHere, tmp_path: Path) -> None:
    """By the official command."""
    command = [*HF, "download", "me/it", "--local-dir", tmp_path / "theirs"]
    subprocess.run(command, check=True, capture_output=True, env=published.environment())
    ours = pulled(published, "--output", tmp_path / "ours")
    for name in names(ours):
        assert (tmp_path / "theirs" / name).read_bytes() == (ours / name).read_bytes()
    assert "pipeline.py" in names(tmp_path / "theirs")


def test_what_hf_uploads_is_fetched(hub: HubHere, tmp_path: Path) -> None:
    command = [*HF, "upload", "me/theirs", SHAPES_MODEL]
    subprocess.run(command, check=True, capture_output=True, env=hub.environment())
    folder = pulled(hub, "--output", tmp_path, repo="me/theirs")
    for name in names(SHAPES_MODEL):
        assert (folder / name).read_bytes() == (SHAPES_MODEL / name).read_bytes()


def test_a_broken_connection_is_mended(published: HubHere, tmp_path: Path) -> None:
    published.post("/_control", {"faults": [{"path": WEIGHTS, "method": "GET", "cut": 200_000, "times": 2}]})
    folder = pulled(published, "--output", tmp_path)
    assert (folder / WEIGHTS).read_bytes() == (SHAPES_MODEL / WEIGHTS).read_bytes()


def test_a_killed_download_goes_on(published: HubHere, tmp_path: Path) -> None:
    published.post("/_control", {"delay": 0.02})
    process = published.start("hub", "pull", "me/it", "--output", tmp_path / "got")
    while not any(entry["path"] == WEIGHTS and entry["bytes"] for entry in published.get("/_log")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {entry["path"] for entry in published.get("/_log") if entry["whole"]}
    count = len(published.get("/_log"))
    folder = pulled(published, "--output", tmp_path / "got")
    assert not before & {entry["path"] for entry in published.get("/_log")[count:]}
    for name in names(SHAPES_MODEL):
        assert (folder / name).read_bytes() == (SHAPES_MODEL / name).read_bytes()
