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
from torchmetrics.functional.image import lpips as functional_lpips


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


def plain_lpips(network: torch.nn.Module, weights: dict[str, torch.Tensor], one: np.ndarray, two: np.ndarray) -> float:
    """Zhang et al. 2018: features after each rectifier of AlexNet, of unit length at each place, and a weighted sum of
    their squared differences, on average over places."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = torch.stack([torch.from_numpy((each / 255 - mean) / std).permute(2, 0, 1).float() for each in (one, two)])
    total, number = 0.0, 0
    for layer in network.features:
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):
            known = x.detach().double().numpy()
            known = known / np.sqrt((known**2).sum(1, keepdims=True) + 1e-20)
            weight = weights[f"lin{number}.model.1.weight"].double().numpy().reshape(-1, 1, 1)
            total += float((weight * (known[0] - known[1]) ** 2).sum(0).mean())
            number += 1
    return total


def test_lpips_equals_a_plain_computation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in the place that torchvision's are fetched to, and the weights of the metric's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    network = torchvision.models.alexnet().eval()
    torch.save(network.state_dict(), folder / weights.url.rpartition("/")[2])
    lpips = Lpips()
    one, other = noise(0, 64, 72), noise(1, 64, 72)
    near = np.clip(one.astype(int) + 20, 0, 255).astype(np.uint8)
    assert lpips.score(one, one)["lpips"] == pytest.approx(0, abs=1e-6)
    assert 0 < lpips.score(one, near)["lpips"] < lpips.score(one, other)["lpips"]
    known = Path(functional_lpips.__file__).parent / "lpips_models" / "alex.pth"
    linear = torch.load(known, weights_only=True, map_location="cpu")
    for each in (near, other):
        expected = plain_lpips(network, linear, one, each)
        assert lpips.score(one, each)["lpips"] == pytest.approx(expected, abs=1e-5)


def test_weights_that_cant_be_had_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def fail() -> None:
        raise OSError("no way there")

    with pytest.raises(ValueError, match=r"The weights of DINO are not here .*no way there.*leave it out of --metrics"):
        perceptual.fetched("DINO", fail)
