"""Fitting to the model's sizes and back, masks, and what is pasted and saved at the end."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from ip2p.ip2p_pipeline.image_io import fit_picture, load_picture, restore, to_pil
from ip2p.ip2p_pipeline.masks import load_mask, paste_outside
from PIL import Image, ImageDraw, ImageFilter

MODES: list[Literal["pad", "resize"]] = ["pad", "resize"]
SIZES = [(1, 1), (3, 5), (1, 40), (8, 8), (13, 21), (63, 65), (64, 32), (10, 20_000), (20_000, 10)]


def noise(height: int, width: int) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


def gradient(height: int, width: int) -> torch.Tensor:
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    return torch.stack([rows.expand(height, width), columns.expand(height, width), (rows + columns) / 2])


# ----------------------------------------------------------------------------
# fit_picture, restore.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resolution", [None, 48, 100])
@pytest.mark.parametrize("mode", MODES)
def test_every_size_fits_and_comes_back(
    size: tuple[int, int], resolution: int | None, mode: Literal["pad", "resize"]
) -> None:
    picture = noise(*size)
    fitted, fit = fit_picture(picture, 8, resolution, mode)
    height, width = fitted.shape[-2:]
    assert height % 8 == width % 8 == 0
    assert min(height, width) >= 8
    assert (fitted.min() >= 0) and (fitted.max() <= 1)
    if resolution:
        assert abs(max(height, width) - resolution) < 8
    edited = restore(1 - fitted, fit)
    assert edited.shape == picture.shape
    if mode == "pad" and resolution is None:
        assert torch.equal(edited, 1 - picture)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resolution", [None, 64])
def test_a_size_that_fits_is_untouched(mode: Literal["pad", "resize"], resolution: int | None) -> None:
    picture = noise(64, 32)  # not square, and stays so
    fitted, fit = fit_picture(picture, 8, resolution, mode)
    assert torch.equal(fitted, picture)
    assert torch.equal(restore(fitted, fit), picture)


def test_8_bit_pixels_survive_padding_byte_for_byte() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8))
    fitted, fit = fit_picture(load_picture(image).rgb, 64)
    assert fitted.shape == (3, 64, 64)
    assert to_pil(restore(fitted, fit)).tobytes() == image.tobytes()


def test_padding_repeats_the_edges_half_on_each_side() -> None:
    picture = noise(5, 6)
    fitted, fit = fit_picture(picture, 8)
    assert fit.padding == (1, 1, 1, 2)
    assert torch.equal(fitted[:, 1:6, 1:7], picture)
    assert torch.equal(fitted[:, 0, 1:7], picture[:, 0])
    assert torch.equal(fitted[:, 7, 1:7], picture[:, -1])
    assert torch.equal(fitted[:, 1:6, 7], picture[:, :, -1])


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 200), (96, 64)), ((40, 60), (64, 96)), ((1000, 30), (96, 8)), ((30, 1000), (8, 96))]
)
def test_resolution_is_the_longest_side_and_the_aspect_is_kept(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    _, fit = fit_picture(noise(*size), 8, resolution=96)
    assert fit.resized == expected


def test_a_resolution_that_is_no_multiple_is_padded() -> None:
    fitted, fit = fit_picture(noise(60, 30), 8, resolution=50)
    assert fit.resized == (50, 25)
    assert fitted.shape == (3, 56, 32)


@pytest.mark.parametrize(
    ("size", "expected"), [((67, 61), (64, 64)), ((68, 60), (64, 64)), ((70, 3), (72, 8)), ((12, 12), (16, 16))]
)
def test_resizing_stretches_to_the_nearest_multiple(size: tuple[int, int], expected: tuple[int, int]) -> None:
    fitted, fit = fit_picture(noise(*size), 8, how="resize")
    assert fitted.shape[-2:] == expected
    assert not any(fit.padding)


@pytest.mark.parametrize("mode", MODES)
def test_resizing_there_and_back_loses_little(mode: Literal["pad", "resize"]) -> None:
    picture = gradient(93, 131)
    fitted, fit = fit_picture(picture, 8, resolution=64, how=mode)
    assert (restore(fitted, fit) - picture).abs().mean() < 1e-3


def test_resizing_is_antialiased_and_not_rounded_to_8_bits() -> None:
    stripes = torch.arange(256).remainder(2).float().expand(3, 256, 256)
    fitted, _ = fit_picture(stripes, 8, resolution=64)
    assert (fitted[:, 4:-4, 4:-4] - 0.5).abs().max() < 0.02
    assert fit_picture(gradient(64, 64), 8, resolution=512)[0].unique().numel() > 1000


def test_a_mask_is_fitted_like_its_picture() -> None:
    mask = torch.ones(1, 13, 21)
    fitted, fit = fit_picture(mask, 8, resolution=40)
    assert torch.equal(fitted, torch.ones(1, 32, 40))
    assert torch.equal(restore(fitted, fit), mask)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type(dtype: torch.dtype) -> None:
    fitted, fit = fit_picture(noise(9, 17).to(dtype), 8, resolution=40)
    assert fitted.dtype == restore(fitted, fit).dtype == dtype


def test_fitting_is_deterministic() -> None:
    assert torch.equal(*(fit_picture(noise(50, 70), 8, resolution=64)[0] for _ in range(2)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"resolution": 0}, "longest side in pixels, at least 1, not 0"),
        ({"resolution": -8}, "not -8"),
        ({"resolution": 10**6}, "working size is .* pixels"),
        ({"how": "crop"}, '"pad" or "resize", not \'crop\''),
    ],
)
def test_a_fit_that_can_not_be_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit_picture(noise(8, 8), 8, **options)


# ----------------------------------------------------------------------------
# load_mask.


def left_half(height: int = 6, width: int = 8) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return mask


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "F", "I;16"])
def test_masks_in_every_mode(mode: str) -> None:
    grey = Image.fromarray(left_half())
    image = Image.fromarray(left_half().astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    assert image.mode == mode
    assert torch.equal(load_mask(image, (6, 8)), torch.from_numpy(left_half()) / 255)


def test_masks_from_arrays_tensors_and_files(tmp_path: Path) -> None:
    array = left_half()
    Image.fromarray(array).save(tmp_path / "mask.png")
    tensor = torch.from_numpy(array)
    masks: list[Any] = [array, array > 0, array // 255, array / 255, array[..., None], array[None, ..., None]]
    masks += [tensor, tensor > 0, tensor // 255, tensor.half() / 255, tensor[None], tensor[None, None]]
    masks += [tmp_path / "mask.png", str(tmp_path / "mask.png"), Image.fromarray(array // 255)]
    for mask in masks:
        loaded = load_mask(mask, (6, 8))
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, tensor / 255)


def test_every_grey_of_a_soft_mask_is_kept() -> None:
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert torch.equal(load_mask(Image.fromarray(greys), (16, 16)), torch.from_numpy(greys) / 255)


def test_no_mask_edits_everywhere() -> None:
    assert torch.equal(load_mask(None, (2, 3), feather=4), torch.ones(2, 3))


def test_transparent_parts_of_a_mask_are_kept(tmp_path: Path) -> None:
    mask = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    mask.putpixel((1, 0), (255, 255, 255, 0))
    mask.save(tmp_path / "mask.png")
    for given in (mask, tmp_path / "mask.png", np.asarray(mask)):
        assert load_mask(given, (1, 2)).tolist() == [[1, 0]]


def test_a_masks_exif_is_ignored(tmp_path: Path) -> None:
    mask = Image.fromarray(left_half())
    exif = Image.Exif()
    exif[0x0112] = 6
    mask.info["exif"] = exif.tobytes()
    mask.save(tmp_path / "mask.png", exif=exif)
    for given in (mask, tmp_path / "mask.png"):
        assert torch.equal(load_mask(given, (6, 8)), torch.from_numpy(left_half()) / 255)


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"The mask is 8×6 \(width×height\) and the picture 6×8"):
        load_mask(left_half(), (8, 6))


@pytest.mark.parametrize("feather", [0, 3])
def test_a_black_mask_is_refused(feather: float) -> None:
    with pytest.raises(ValueError, match="black everywhere, so nothing may change"):
        load_mask(np.zeros((4, 4), np.uint8), (4, 4), feather)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (torch.tensor([[-1.0, 1.0]]), "values below 0"),
        (torch.tensor([[0.0, 255.0]]), "floats from 0 to 255"),
        (np.array([[0, np.nan]]), "NaN"),
        (np.zeros((2, 1, 2, 1), np.uint8), "A batch of 2 masks"),
    ],
)
def test_a_mask_out_of_range_or_shape_is_refused(mask: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_mask(mask, (1, 2))


@pytest.mark.parametrize("feather", [-1, float("nan"), float("inf")])
def test_a_feather_that_is_no_length_is_refused(feather: float) -> None:
    with pytest.raises(ValueError, match="feather is a number of pixels"):
        load_mask(left_half(), (6, 8), feather)


def disc(size: int = 96, radius: int = 30) -> Image.Image:
    image = Image.new("L", (size, size))
    ImageDraw.Draw(image).ellipse([size // 2 - radius, size // 2 - radius, size // 2 + radius, size // 2 + radius], 255)
    return image


def test_feathering_never_reaches_a_pixel_that_the_mask_keeps() -> None:
    hard, soft = load_mask(disc(), (96, 96)), load_mask(disc(), (96, 96), feather=4)
    assert torch.equal(soft == 0, hard == 0)
    assert soft.max() == 1  # far from the edge the edit is whole
    assert 0 < soft[hard > 0].min() < 0.25
    across = soft[48, 18:49]
    assert (across.diff() >= 0).all()


def test_feathering_follows_a_gaussian_of_that_width() -> None:
    mask = np.zeros((40, 120), np.uint8)
    mask[:, 60:] = 255
    soft = load_mask(mask, (40, 120), feather=6)
    step = Image.fromarray(np.where(np.arange(1200) >= 600, 1.0, 0.0).astype(np.float32)[None].repeat(9, 0) * 255)
    blurred = np.asarray(step.convert("L").filter(ImageFilter.GaussianBlur(60)))[4] / 255  # ten times finer
    for pixels in (3, 6, 12):
        assert abs(soft[20, 59 + pixels] - (2 * blurred[600 + 10 * pixels] - 1)) < 0.03


def test_feathering_measures_true_distances() -> None:
    inside = np.random.default_rng(0).random((12, 17)) < 0.9
    rows, columns = np.nonzero(~inside)
    grid = np.indices(inside.shape)[..., None]
    distance = torch.from_numpy(np.hypot(grid[0] - rows, grid[1] - columns).min(axis=-1))
    expected = torch.erf(distance / (3 * 2**0.5)).float()
    assert torch.allclose(load_mask(inside, (12, 17), feather=3), expected, atol=1e-6)


def test_feathering_leaves_narrow_masks_something() -> None:
    line = np.zeros((9, 30), np.uint8)
    line[4] = 255
    assert load_mask(line, (9, 30), feather=8)[4].min() > 0.05


def test_the_pictures_border_is_no_edge_of_the_mask() -> None:
    assert torch.equal(load_mask(np.full((5, 7), 255, np.uint8), (5, 7), feather=3), torch.ones(5, 7))
    soft = load_mask(left_half(6, 40), (6, 40), feather=3)
    assert soft[:, 0].min() == 1


def test_soft_masks_stay_at_most_what_they_were() -> None:
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (load_mask(greys, (16, 16), feather=2) <= load_mask(greys, (16, 16))).all()


# ----------------------------------------------------------------------------
# paste_outside, to_pil.


def test_outside_the_mask_the_original_comes_back_exactly() -> None:
    original, edited = noise(6, 8), torch.rand(3, 6, 8)
    mask = load_mask(left_half(), (6, 8))
    edited[:, :, 7] = float("nan")  # whatever the model made there
    pasted = paste_outside(original, edited, mask)
    assert torch.equal(pasted[:, :, 4:], original[:, :, 4:])
    assert torch.equal(pasted[:, :, :4], edited[:, :, :4])


def test_a_soft_mask_mixes() -> None:
    pasted = paste_outside(torch.zeros(3, 1, 3), torch.ones(3, 1, 3), torch.tensor([[0.0, 0.25, 1.0]]))
    assert pasted[0].tolist() == [[0, 0.25, 1]]


def test_a_masked_edit_keeps_every_byte_outside() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    picture, mask = load_picture(image), load_mask(disc(), (96, 96), feather=5)
    fitted, fit = fit_picture(picture.rgb, 8, resolution=56)
    result = np.asarray(to_pil(paste_outside(picture.rgb, restore(1 - fitted, fit), mask)))
    kept = np.asarray(disc()) == 0
    assert (result[kept] == np.asarray(image)[kept]).all()
    assert (result[~kept] != np.asarray(image)[~kept]).any()


def test_to_pil_rounds_and_clips() -> None:
    image = to_pil(torch.tensor([-0.2, 0.4979, 1.3])[:, None, None])
    assert image.getpixel((0, 0)) == (0, 127, 255)
    assert to_pil(torch.zeros(3, 2, 5, dtype=torch.bfloat16), torch.ones(2, 5)).size == (5, 2)
