"""DINO and LPIPS: known answers and plain computations, on weights that are at hand."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from evaluate_data import noise
from ip2p.training.evaluate import perceptual
from ip2p.training.evaluate.perceptual import Dino, Lpips
from PIL import Image


def test_dino_is_the_cosine_of_features_of_the_middle() -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    dino = Dino(model=model)
    one, two = noise(0, 300, 256), noise(1, 300, 256)
    features = []
    for each in (one, two):
        picture = Image.fromarray(each).resize((256, 300), Image.Resampling.BICUBIC).crop((16, 38, 240, 262))
        pixels = (np.array(picture) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        with torch.no_grad():
            features.append(model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0].double().numpy())
    expected = features[0] @ features[1] / np.linalg.norm(features[0]) / np.linalg.norm(features[1])
    assert dino.score(one, two)["dino"] == pytest.approx(expected, abs=1e-5)
    assert dino.score(one, one)["dino"] == pytest.approx(1)


def test_lpips_is_torchmetrics_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in the place that torchvision's are fetched to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(torchvision.models.alexnet().state_dict(), folder / weights.url.rpartition("/")[2])
    lpips = Lpips()
    one = noise(0, 64, 64)
    near = np.clip(one.astype(int) + 20, 0, 255).astype(np.uint8)
    assert lpips.score(one, one)["lpips"] == pytest.approx(0, abs=1e-6)
    assert 0 < lpips.score(one, near)["lpips"] < lpips.score(one, noise(1, 64, 64))["lpips"]


def test_weights_that_cant_be_had_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def fail() -> None:
        raise OSError("no way there")

    with pytest.raises(ValueError, match=r"The weights of DINO are not here .*no way there.*leave it out of --metrics"):
        perceptual.fetched("DINO", fail)
