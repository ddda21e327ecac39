"""Distances of pixels, against plain numpy and known answers."""

import math

import numpy as np
import pytest
from evaluate_data import noise
from ip2p.training.evaluate.pixels import PSNR_OF_EQUALS, pixel_scores


def plain_ssim(one: np.ndarray, two: np.ndarray) -> float:
    """Wang et al. 2004, with a window of 11 and a sigma of 1.5, mirrored at the borders, over each channel."""
    ramp = np.arange(11) - 5
    window = np.exp(-(ramp**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((5, 5), (5, 5), (0, 0)), mode="reflect")
        rows = sum(w * padded[i : i + x.shape[0]] for i, w in enumerate(window))
        return sum(w * rows[:, i : i + x.shape[1]] for i, w in enumerate(window))

    x, y = one / 255, two / 255
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    map_ = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(map_.mean())


def test_they_equal_plain_numpy() -> None:
    one, two = noise(0), noise(1)
    two = (0.7 * one + 0.3 * two).astype(np.uint8)
    found = pixel_scores(one, two)
    difference = one / 255 - two / 255
    assert found["l1"] == pytest.approx(np.abs(difference).mean(), abs=1e-9)
    assert found["l2"] == pytest.approx((difference**2).mean(), abs=1e-9)
    assert found["psnr"] == pytest.approx(10 * math.log10(1 / (difference**2).mean()), abs=1e-9)
    assert found["ssim"] == pytest.approx(plain_ssim(one, two), abs=1e-5)
    assert found == pytest.approx(pixel_scores(two, one))


def test_equal_and_opposite_pictures() -> None:
    one = noise(0)
    assert pixel_scores(one, one) == pytest.approx({"l1": 0, "l2": 0, "psnr": PSNR_OF_EQUALS, "ssim": 1})
    black, white = np.zeros_like(one), np.full_like(one, 255)
    found = pixel_scores(black, white)
    assert found["l1"] == found["l2"] == 1 and found["psnr"] == 0 and found["ssim"] < 1e-3
