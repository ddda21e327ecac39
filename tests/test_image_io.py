"""Pictures held in memory: every mode, type, range and orientation, and what is refused."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from ip2p.ip2p_pipeline.image_io import load_picture, load_pictures, to_pil, uncomposite
from PIL import Image, ImageCms


def noise(height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def colour_of(image: Any, **options: Any) -> list[int]:
    """The one colour of a uniform picture, as 8-bit RGB."""
    colours = np.asarray(to_pil(load_picture(image, **options).rgb)).reshape(-1, 3)
    assert (colours == colours[0]).all()
    return colours[0].tolist()


def saved_and_opened(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer)


# ----------------------------------------------------------------------------
# PIL.


def test_8_bit_rgb_comes_back_byte_for_byte() -> None:
    every_value = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([every_value, every_value.T, every_value[::-1]], axis=-1))
    picture = load_picture(image)
    assert picture.rgb.shape == (3, 16, 16)
    assert picture.rgb.dtype == torch.float32
    assert (picture.rgb.min(), picture.rgb.max()) == (0, 1)
    assert picture.alpha is None
    assert to_pil(picture.rgb).mode == "RGB"
    assert to_pil(picture.rgb).tobytes() == image.tobytes()


RED = (200, 40, 80)
GREY = (145, 145, 145)


@pytest.mark.parametrize(
    ("mode", "expected", "tolerance"),
    [
        ("RGB", RED, 0),
        ("RGBX", RED, 0),
        ("RGBA", RED, 0),
        ("RGBa", RED, 0),
        ("CMYK", RED, 0),
        ("P", RED, 0),
        ("PA", RED, 0),
        ("YCbCr", RED, 2),
        ("HSV", RED, 4),
        ("LAB", RED, 2),
        ("L", GREY, 0),
        ("LA", GREY, 0),
        ("La", GREY, 0),
        ("I", GREY, 0),
        ("F", GREY, 0),
        ("1", (255, 255, 255), 0),
    ],
)
def test_every_mode_gives_its_colour(mode: str, expected: tuple[int, ...], tolerance: int) -> None:
    rgb = Image.new("RGB", (6, 4), RED)
    if expected == GREY:
        image = Image.new("L", (6, 4), GREY[0])
        image = image.convert("LA").convert("La") if mode == "La" else image.convert(mode)
    elif mode == "1":
        image = Image.new("1", (6, 4), 1)
    elif mode in ("P", "PA"):
        image = rgb.convert("P", palette=Image.Palette.ADAPTIVE).convert(mode)
    elif mode == "RGBa":
        image = rgb.convert("RGBA").convert("RGBa")
    elif mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        transformed = ImageCms.applyTransform(rgb, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        assert transformed is not None
        image = transformed
    else:
        image = rgb.convert(mode)
    assert image.mode == mode
    assert np.abs(np.subtract(colour_of(image), expected)).max() <= tolerance


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_16_bits_are_scaled_not_clipped(mode: str) -> None:
    values = np.array([[0, 257 * 100, 65535]], dtype=np.int32)
    image = Image.fromarray(values).convert(mode)
    assert np.asarray(to_pil(load_picture(image).rgb))[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]


def test_16_bit_png_keeps_more_than_8_bits() -> None:
    image = saved_and_opened(Image.fromarray(np.array([[1000, 1001, 65535]], dtype=np.uint16)))
    assert torch.allclose(load_picture(image).rgb[0, 0] * 65535, torch.tensor([1000.0, 1001.0, 65535.0]))


def test_float_mode_takes_the_smallest_range_that_holds_it() -> None:
    for brightest in (1, 255, 65535):
        values = np.array([[0, 0.6, 1]], dtype=np.float32) * brightest
        assert torch.allclose(load_picture(Image.fromarray(values)).rgb[0, 0], torch.tensor([0, 0.6, 1]))


@pytest.mark.parametrize("values", [np.array([[-3, 9]], np.int32), np.array([[0, 70000]], np.int32)])
def test_deep_grey_outside_every_range_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"values from {values.min()} to {values.max()}: scale them"):
        load_picture(Image.fromarray(values))


def test_rgba_is_a_picture_not_latents() -> None:
    picture = load_picture(Image.fromarray(noise(64, 64, 4)))
    assert picture.rgb.shape == (3, 64, 64)
    assert picture.alpha is not None
    assert picture.alpha.shape == (64, 64)


def test_transparency_is_composited_and_its_alpha_kept() -> None:
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], dtype=np.uint8)
    picture = load_picture(Image.fromarray(pixels), background=(0, 0, 250))
    assert picture.alpha is not None
    assert np.asarray(to_pil(picture.rgb))[0].tolist() == [[200, 100, 0], [0, 0, 250], [40, 20, 200]]
    again = to_pil(picture.rgb, picture.alpha)
    assert again.mode == "RGBA"
    assert np.asarray(again)[0, :, 3].tolist() == [255, 0, 51]
    assert np.asarray(again)[0, 0].tolist() == [200, 100, 0, 255]


def test_background_is_white_by_default() -> None:
    assert colour_of(Image.new("RGBA", (2, 2), (9, 9, 9, 0))) == [255, 255, 255]


@pytest.mark.parametrize("background", ["white", "abc", (0, 0), (0, 0, 256)])
def test_a_background_that_is_no_colour_is_refused(background: Any) -> None:
    with pytest.raises(ValueError, match=r"three values in 0\.\.255"):
        load_picture(Image.new("RGBA", (2, 2)), background=background)


@pytest.mark.parametrize(
    ("mode", "seen", "hidden"), [("RGB", RED, (1, 2, 3)), ("L", 90, 3), ("P", 1, 0), ("1", 1, 0), ("I;16", 25700, 3)]
)
def test_a_transparent_colour_of_a_png_is_transparent(mode: str, seen: Any, hidden: Any) -> None:
    image = Image.new(mode, (2, 1), seen)
    image.putpixel((0, 0), hidden)
    if mode == "P":
        image.putpalette([10, 10, 10, 20, 20, 20])
    picture = load_picture(saved_and_opened(image, transparency=hidden))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 1]]
    assert picture.rgb[:, 0, 0].tolist() == [1, 1, 1]
    assert picture.rgb[0, 0, 1] < 1 or mode == "1"


# Where the stored picture's corners (a b / c d) belong, by EXIF orientation.
UPRIGHT = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "cadb", 7: "dbca", 8: "bdac"}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    pixels = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = load_picture(saved_and_opened(Image.fromarray(pixels), kind, exif=exif, **options))
    corners = dict(zip("abcd", (pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1]), strict=True))
    upright = np.asarray(to_pil(picture.rgb))
    assert upright.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    for corner, (row, column) in zip(UPRIGHT[orientation], [(0, 0), (0, -1), (-1, 0), (-1, -1)], strict=True):
        assert upright[row, column].tolist() == corners[corner].tolist()


def test_broken_exif_does_not_stop_a_picture() -> None:
    image = Image.fromarray(noise())
    image.info["exif"] = b"Exif\x00\x00nonsense"
    assert to_pil(load_picture(image).rgb).tobytes() == image.tobytes()


def test_the_given_image_is_left_as_it_was() -> None:
    image = Image.fromarray(noise()).convert("P")
    before = (image.mode, image.size, image.tobytes(), dict(image.info))
    load_picture(image)
    assert (image.mode, image.size, image.tobytes(), dict(image.info)) == before


def test_one_pixel() -> None:
    assert colour_of(Image.new("RGB", (1, 1), RED)) == list(RED)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="has no pixels: it is 0×4"):
        load_picture(Image.new("RGB", (0, 4)))


# ----------------------------------------------------------------------------
# Arrays and tensors.


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_numpy_and_torch_give_what_pil_gives(channels: int) -> None:
    pixels = noise(channels=channels)
    expected = load_picture(Image.fromarray(pixels.squeeze()))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (
        pixels,
        pixels[::-1][::-1],
        pixels.astype(np.uint16) * 257,
        (pixels.astype(np.uint16) * 257).astype(">u2"),
        pixels / 255,
        pixels.astype(np.float32) / 255,
        tensor,
        tensor.float() / 255,
        tensor.double() / 255,
        tensor.float() / 127.5 - 1,
    ):
        picture = load_picture(image)
        assert torch.allclose(picture.rgb, expected.rgb, atol=1e-6)
        assert (picture.alpha is None) == (channels < 4)
        if picture.alpha is not None and expected.alpha is not None:
            assert torch.allclose(picture.alpha, expected.alpha, atol=1e-6)


def test_uint8_arrays_are_divided_by_255_exactly() -> None:
    pixels = noise()
    assert torch.equal(load_picture(pixels).rgb, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


def test_grey_without_a_channel_axis() -> None:
    grey = noise(channels=1)[..., 0]
    for image in (grey, torch.from_numpy(grey), grey > 99):
        assert load_picture(image).rgb.shape == (3, 5, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors_that_want_gradients(dtype: torch.dtype) -> None:
    picture = load_picture(torch.rand(3, 4, 4).to(dtype).requires_grad_())
    assert picture.rgb.dtype == torch.float32
    assert not picture.rgb.requires_grad


def test_a_picture_does_not_share_the_arrays_memory() -> None:
    pixels = np.zeros((2, 2, 3), np.float32)
    picture = load_picture(pixels)
    pixels += 1
    assert picture.rgb.max() == 0


def test_the_range_of_a_batch_is_judged_as_a_whole() -> None:
    batch = torch.stack([torch.full((3, 2, 2), -1.0), torch.full((3, 2, 2), 0.5)])
    dark, light = load_pictures(batch)
    assert dark.rgb.unique() == 0
    assert light.rgb.unique() == 0.75


def test_rounding_noise_is_inside_the_range() -> None:
    assert load_picture(torch.tensor([[0.0, -1e-6, 1.00001]])).rgb[0].tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.full((2, 2, 3), np.nan), "NaN or infinite"),
        (torch.full((3, 2, 2), float("inf")), "NaN or infinite"),
        (torch.full((3, 2, 2), float("nan")), "NaN or infinite"),
        (Image.fromarray(np.full((2, 2), np.nan, np.float32)), "NaN or infinite"),
        (np.full((2, 2, 3), 200.0), r"floats from 200 to 200: scale them to 0\.\.1"),
        (np.full((2, 2, 3), -0.5), "floats from -0.5 to -0.5"),
        (torch.randn(4, 8, 8) * 5, "latents are given as image_latents"),
        (np.full((2, 2, 3), 200), "type int64 have no known range"),
        (np.zeros((3, 8, 8)), "shape 3×8×8 .* height×width×channels .* transpose it"),
        (np.zeros((8, 8, 2)), "shape 8×8×2"),
        (np.zeros((8, 0, 3)), "no pixels"),
        (torch.zeros(8, 8, 3), "shape 8×8×3 .* channels×height×width .* permute it"),
        (torch.zeros(8), "shape 8 "),
        (torch.zeros(3, 0, 8), "no pixels"),
        (torch.zeros(2, 3, 8, 8), "batch of 2 pictures"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(image: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_picture(image)


@pytest.mark.parametrize("image", [None, 3, b"bytes", {"image": 1}])
def test_another_type_is_refused(image: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(image).__name__}"):
        load_pictures(image)


# ----------------------------------------------------------------------------
# Several.


def test_lists_keep_order_kinds_and_sizes() -> None:
    images = [Image.new("L", (9, 4), 7), noise(3, 5), torch.zeros(3, 6, 2), np.zeros((2, 8, 8, 4))]
    pictures = load_pictures(images)
    assert [tuple(picture.rgb.shape) for picture in pictures] == [
        (3, 4, 9),
        (3, 3, 5),
        (3, 6, 2),
        (3, 8, 8),
        (3, 8, 8),
    ]
    assert [picture.alpha is None for picture in pictures] == [True, True, True, False, False]


@pytest.mark.parametrize("images", [noise(), Image.fromarray(noise()), (Image.fromarray(noise()),), noise()[None]])
def test_one_picture_is_a_list_of_one(images: Any) -> None:
    (picture,) = load_pictures(images)
    assert to_pil(picture.rgb).tobytes() == noise().tobytes()


def test_the_background_reaches_every_picture() -> None:
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    for picture in load_pictures([clear, np.asarray(clear)[None]], background=(255, 0, 0)):
        assert picture.rgb[:, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("images", [[], (), np.zeros((0, 4, 4, 3)), torch.zeros(0, 3, 4, 4)])
def test_no_picture_at_all_is_refused(images: Any) -> None:
    with pytest.raises(ValueError, match="no picture to edit"):
        load_pictures(images)


def test_colours_are_found_again_under_their_background() -> None:
    rgba = np.random.default_rng(0).random((8, 9, 4), dtype=np.float32)
    rgba[0, 0, 3] = 0
    rgba[0, 1, 3] = 1
    picture = load_picture(rgba, (200, 10, 90))
    assert torch.equal(picture.straight, torch.from_numpy(rgba[..., :3]).permute(2, 0, 1))
    found = uncomposite(picture.rgb, picture.alpha, (200, 10, 90))
    shows = picture.alpha > 0.02
    assert torch.allclose(found[:, shows], picture.straight[:, shows], atol=1e-5)
    assert torch.equal(found[:, 0, 0], picture.rgb[:, 0, 0])
    assert uncomposite(torch.zeros(3, 1, 1), torch.full((1, 1), 0.5), (255, 255, 255)).flatten().tolist() == [0, 0, 0]


def test_an_opaque_picture_has_one_set_of_colours() -> None:
    picture = load_picture(np.zeros((2, 2, 3), np.uint8))
    assert picture.straight is picture.rgb
