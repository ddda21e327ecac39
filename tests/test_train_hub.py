"""Trainings on datasets of a Hub: fetched whole, or as a stream; and a model's from there."""

import base64
from pathlib import Path

import pytest
import torch
from finetune_data import write_pairs
from hub_fixtures import HubHere, a_hub, hub_of_module  # noqa: F401
from pairs_models import base_pipeline
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "base"
    base_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def a_dataset(hub: HubHere, tmp_path: Path) -> None:
    """me/pairs, of ten triplets of two pairs."""
    content = base64.b64encode(write_pairs(tmp_path / "pairs.parquet", count=10).read_bytes()).decode()
    hub.post("/_hostile", {"kind": "dataset", "repo": "me/pairs", "files": {"data/train-00000.parquet": content}})


def train(hub: HubHere, base: Path, folder: Path, *flags: object) -> tuple[int, str, str]:
    """`ip2p train` of a few steps, on me/pairs."""
    few = ("--resolution", 32, "--resize-max", 32, "--batch-size", 2, "--held-out", 2, "--tracker", "none", "--cpu")
    every = ("--save-every", 2, "--validate-every", 0)
    return hub.ip2p("train", "--model", base, "--data", "me/pairs", *few, *every, "-o", folder, *flags)


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "state.safetensors")


@pytest.mark.parametrize("streaming", [[], ["--streaming"]], ids=["whole", "streamed"])
def test_it_is_trained_on_and_goes_on_exactly(streaming: list[str], hub: HubHere, base: Path, tmp_path: Path) -> None:
    code, out, err = train(hub, base, tmp_path / "undisturbed", "--steps", 4, *streaming)
    assert code == 0, err
    assert str(tmp_path / "undisturbed" / "pipeline") in out
    for steps in (2, 4):
        code, _, err = train(hub, base, tmp_path / "parts", "--steps", steps, *streaming)
        assert code == 0, err
    expected, found = (state(tmp_path / name) for name in ("undisturbed", "parts"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_streamed_pairs_are_not_kept_on_the_disk(hub: HubHere, base: Path, tmp_path: Path) -> None:
    code, _, err = train(hub, base, tmp_path / "run", "--steps", 1, "--streaming")
    assert code == 0, err
    assert not [*tmp_path.rglob("run/**/*.parquet"), *(hub.folder / "home").rglob("*.parquet")]


@pytest.mark.parametrize("streaming", [[], ["--streaming"]], ids=["whole", "streamed"])
def test_bad_datasets_are_a_sentence(streaming: list[str], hub: HubHere, base: Path, tmp_path: Path) -> None:
    code, _, err = train(hub, base, tmp_path / "run", "--edit-prompt-column", "instruction", *streaming)
    assert code == 1 and "me/pairs has no column instruction (its columns are " in err and "Traceback" not in err
    code, _, err = train(hub, base, tmp_path / "run", "--data", "me/nothing", *streaming)
    assert code == 1 and "me/nothing" in err and "Traceback" not in err
