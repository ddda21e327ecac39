"""The NSFW checks: diffusers' safety checker, and a function of the user's own."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from ip2p.training.pairs import nsfw
from ip2p.training.pairs.nsfw import SafetyChecker, load_nsfw_check
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import feature_extractor, picture
from transformers import CLIPConfig

UNSAFE = 2  # of the pictures below


def pictures() -> list[np.ndarray]:
    return [np.asarray(picture(seed, 80, 48)) for seed in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny safety checker, to which one of the pictures is unsafe."""
    path = tmp_path_factory.mktemp("checker")
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(vision_config={**vision, "image_size": 32, "patch_size": 16}, projection_dim=16)
    model = StableDiffusionSafetyChecker(config).eval()
    processor = feature_extractor()
    seen = processor(images=[Image.fromarray(each) for each in pictures()], return_tensors="pt").pixel_values
    with torch.no_grad():
        embedded = F.normalize(model.visual_projection(model.vision_model(seen)[1]))
        nearest = (embedded @ embedded[UNSAFE]).sort(descending=True).values
        model.concept_embeds.zero_()[3] = embedded[UNSAFE]
        model.concept_embeds_weights[3] = nearest[:2].mean()
        assert nearest[0] - nearest[1] > 0.01  # the checker rounds to thousandths
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_the_safety_checker_says_which_pictures_are_unsafe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nsfw, "snapshot_download", lambda *_, **__: str(folder))
    caplog.set_level(logging.WARNING, "diffusers")  # commands that other tests ran keep it quiet
    check = load_nsfw_check("safety_checker", "cpu")
    given = pictures()
    assert list(check(given)) == [number == UNSAFE for number in range(5)]
    assert all(np.array_equal(*pair) for pair in zip(given, pictures(), strict=True))  # nothing is blackened
    assert list(check([])) == []
    assert caplog.messages == [] and capfd.readouterr() == ("", "")
    assert logging.getLogger("diffusers").isEnabledFor(logging.WARNING)


def test_batches_make_no_difference(folder: Path) -> None:
    assert SafetyChecker(folder, batch_size=2)(pictures()) == SafetyChecker(folder)(pictures())


def test_the_checker_loads_as_it_was_published(folder: Path, tmp_path: Path) -> None:
    """Before transformers 5 the vision model was a part deeper."""
    copy(folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    old = {f"vision_model.{key}" if key.startswith("vision_model.") else key: each for key, each in weights.items()}
    old["vision_model.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert SafetyChecker(tmp_path)(pictures()) == SafetyChecker(folder)(pictures())


def copy(folder: Path, to: Path) -> None:
    for file in folder.glob("*.json"):
        (to / file.name).write_bytes(file.read_bytes())


def test_pickled_weights_are_not_opened(folder: Path, tmp_path: Path) -> None:
    copy(folder, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"can't be loaded: .*model\.safetensors"):
        SafetyChecker(tmp_path)


@pytest.mark.parametrize("damage", ["short", "lacking", "misshapen", "no processor"])
def test_a_damaged_checker_is_told_in_a_line(folder: Path, tmp_path: Path, damage: str) -> None:
    copy(folder, tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(folder / file.name)
    if damage == "lacking":
        del weights["visual_projection.weight"]
    if damage == "misshapen":
        weights["visual_projection.weight"] = torch.zeros(3, 32)
    save_file(weights, file, metadata={"format": "pt"})
    if damage == "short":
        file.write_bytes(file.read_bytes()[:5000])
    if damage == "no processor":
        (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="The safety checker in") as caught:
        SafetyChecker(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_told_in_a_line() -> None:
    with pytest.raises(ValueError, match=r"safety-checker can't be had: check the connection to the Hub") as caught:
        load_nsfw_check("safety_checker")
    assert "\n" not in str(caught.value)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a fresh module of the user's."""
    name = f"own_check_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(
        "def dark(pictures):\n    return [picture.mean() < 100 for picture in pictures]\n"
        "def lazy(pictures):\n    return []\n"
        "LIMIT = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_function_of_the_users_own_is_asked(own: str) -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    answers = load_nsfw_check(f"{own}:dark")([black, white, black])
    assert json.dumps(list(answers)) == "[true, false, true]"


def test_a_function_that_misses_pictures_is_told(own: str) -> None:
    with pytest.raises(ValueError, match="gave 0 answers for 5 pictures"):
        load_nsfw_check(f"{own}:lazy")(pictures())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("safety", "no NSFW check safety: give"),
        (":dark", "no NSFW check"),
        ("no_such_module:f", "no_such_module:f can't be imported.*PYTHONPATH"),
        ("OWN:nothing", "nothing can't be imported"),
        ("OWN:LIMIT", "is no function"),
        (".relative:f", "can't be imported"),
    ],
)
def test_a_function_that_is_not_there_is_told_in_a_line(own: str, name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        load_nsfw_check(name.replace("OWN", own))
    assert "\n" not in str(caught.value)
