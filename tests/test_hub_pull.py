"""`ip2p hub pull`: whole, checked, without pickles or code, and back where it was after a broken download."""

import base64
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from hub_fixtures import HubHere, a_hub, hub_of_module  # noqa: F401 - fixtures
from ip2p import SHAPES_MODEL
from pairs_data import make_run
from tiny_models import lora, sd_pipeline

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def published(hub: HubHere) -> HubHere:
    """A Hub with the shapes model, in two precisions."""
    assert hub.ip2p("hub", "publish", SHAPES_MODEL, "--to", "me/it", "--fp16")[0] == 0
    hub.post("/_control", {})
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
    assert (tmp_path / "pipeline.py").is_file()


def test_the_cache_serves_offline_and_says_what_it_lacks(published: HubHere) -> None:
    assert "not in the Hub's cache" in refused(published, "--offline")
    folder = pulled(published)
    assert pulled(published, "--offline") == folder
    program = "from diffusers import DiffusionPipeline as P; print(P.from_pretrained('me/it').unet.config.in_channels)"
    assert published.python(program, offline=True).strip() == "8"
    (folder / WEIGHTS).unlink()
    assert "not whole in the Hub's cache" in refused(published, "--offline")


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


def hostile(hub: HubHere, kind: str = "model", **files: bytes) -> None:
    told = {path: base64.b64encode(content).decode() for path, content in files.items()}
    hub.post("/_hostile", {"kind": kind, "repo": "me/bad", "files": told})


@pytest.mark.parametrize(
    "name", ["../outside.json", "/etc/outside.json", "unet/../../outside.json", "a\\b.json", "c:x.json"]
)
def test_names_that_leave_the_folder_are_refused(hub: HubHere, tmp_path: Path, name: str) -> None:
    hostile(hub, **{name: b"{}", "model.safetensors": b"x"})
    assert "would leave its folder" in refused(hub, "--output", tmp_path / "got", repo="me/bad")
    assert not (tmp_path / "outside.json").exists() and not (tmp_path / "got").exists()


def test_pickles_are_refused(hub: HubHere, tmp_path: Path) -> None:
    hostile(hub, **{"model_index.json": b"{}", "unet/diffusion_pytorch_model.bin": b"pickle"})
    assert "pickle, which can run any code" in refused(hub, "--output", tmp_path, repo="me/bad")
    hostile(hub, **{"pytorch_lora_weights.safetensors": b"x", "optimizer.bin": b"pickle", "run.sh": b"rm"})
    assert names(pulled(hub, "--output", tmp_path / "got", repo="me/bad")) == {"pytorch_lora_weights.safetensors"}


def test_repositories_without_anything_to_fetch_are_told(hub: HubHere) -> None:
    assert "no me/it on the Hub" in refused(hub)
    hostile(hub, **{"README.md": b"hello"})
    assert "no weights in safetensors" in refused(hub, repo="me/bad")
    hostile(hub, "dataset", **{"data.csv": b"a,b"})
    assert "no Parquet files" in refused(hub, "--dataset", repo="me/bad")


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


def test_a_file_that_arrives_changed_is_not_kept(hub: HubHere, tmp_path: Path) -> None:
    hostile(hub, **{"pytorch_lora_weights.safetensors": b"as it was"})
    hub.post(
        "/_falsify", {"content": base64.b64encode(b"as it was").decode(), "as": base64.b64encode(b"another!!").decode()}
    )
    assert "did not arrive as the Hub has it" in refused(hub, "--output", tmp_path, repo="me/bad")
    assert names(tmp_path) == set()
