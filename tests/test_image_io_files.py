"""Pictures read from files: formats, damage, bombs, and the sentence that each bad file gets."""

import gc
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from ip2p.ip2p_pipeline.image_io import MAX_PIXELS, load_picture, load_pictures, to_pil
from ip2p.ip2p_pipeline.masks import load_mask
from PIL import Image, ImageFile, PngImagePlugin

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file with these chunks, checksums right."""
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_claiming(width: int, height: int) -> bytes:
    """A tiny file that claims to be large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_of([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")])


def assert_refused(path: Path, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        load_picture(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm", "tga"])
def test_lossless_files_come_back_exactly(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{kind}"
    Image.fromarray(PIXELS).save(path)
    for given in (path, str(path)):
        assert to_pil(load_picture(given).rgb).tobytes() == PIXELS.tobytes()


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_an_animation_gives_its_first_frame(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"animation.{kind}"
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    first.save(path, save_all=True, append_images=[second], lossless=True)
    (picture,) = load_pictures(str(path))
    assert picture.rgb[:, 4, 4].tolist() == [1, 0, 0]


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path / ("long" * 200)):
        with pytest.raises(FileNotFoundError, match="There is no picture at") as missing:
            load_picture(path)
        assert str(path) in str(missing.value)


def test_a_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path, "is a folder, not a picture")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileNotFoundError):
        load_picture(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    "address", ["https://example.com/cat.png", "HTTP://example.com/a.jpg", "data:image/png;base64,AAAA"]
)
def test_an_address_is_not_a_file(address: str) -> None:
    for given in (address, Path(address)):
        with pytest.raises(ValueError, match="is not a local file: download the picture"):
            load_picture(given)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert_refused(tmp_path / "empty.png", "is empty")


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "words.png"
    path.write_text("not a picture at all")
    assert_refused(path, "is not a picture that Pillow can read")


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_file_cut_short(kind: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / f"whole.{kind}", tmp_path / f"cut.{kind}"
    Image.fromarray(PIXELS).save(whole)
    data = whole.read_bytes()
    for length in (len(data) // 2, 30, 12):
        cut.write_bytes(data[:length])
        assert_refused(cut, "damaged or cut short|can't be opened|is not a picture")


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [("RGB", ["png", "jpeg", "webp", "gif", "tiff", "bmp", "ico", "pcx", "tga"]), ("P", ["png", "gif", "icns", "pcx"])],
)
def test_damaged_files_never_escape_as_other_errors(mode: str, kinds: list[str], tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    path = tmp_path / "damaged"
    for kind in kinds:
        Image.fromarray(PIXELS).convert(mode).save(path, kind)
        data = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(20):
            damaged = data.copy()
            places = random.integers(0, min(len(data), 200), 8)
            damaged[places] = random.integers(0, 256, 8)
            path.write_bytes(damaged.tobytes())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    picture = load_picture(path)
                except ValueError as refused:
                    assert str(path) in str(refused)
                else:
                    assert picture.rgb.ndim == 3


def test_a_lazily_opened_image_that_turns_out_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with Image.open(path) as image, pytest.raises(ValueError, match="damaged or cut short"):
        load_picture(image)


def test_an_eps_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "drawing.eps"
    Image.fromarray(PIXELS).save(path)
    assert_refused(path, "EPS file")


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (10_000, 10_000), (60_000, 60_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_decoding(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(width, height))
    assert_refused(path, "pixels")


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png_claiming(8192, MAX_PIXELS // 8192))
    assert_refused(path, "damaged or cut short")  # past the size check: the file's data are short


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_lower_limit_set_in_pillow_is_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # a mere warning of Pillow's up to 3000 pixels
    path = tmp_path / "small.png"
    Image.fromarray(PIXELS).save(path)
    assert_refused(path, "60×40, more than 1,500 pixels")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("before", [True, False])
def test_text_that_unpacks_to_a_bomb(kind: bytes, before: bool, tmp_path: Path) -> None:
    packed = zlib.compress(bytes(100 * PngImagePlugin.MAX_TEXT_CHUNK))
    label = {b"zTXt": b"bomb\0\0", b"iTXt": b"bomb\0\1\0\0\0", b"iCCP": b"bomb\0\0"}[kind]
    header = (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    image = (b"IDAT", zlib.compress(bytes(4)))
    text = (kind, label + packed)
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of([header, *([text, image] if before else [image, text]), (b"IEND", b"")]))
    assert_refused(path, "too large")


@pytest.mark.parametrize(("width", "height"), [(20_000, 10), (10, 20_000), (1, 1)])
def test_extreme_sizes_are_read(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "extreme.png"
    Image.new("RGB", (width, height), (1, 2, 3)).save(path)
    assert load_picture(path).rgb.shape == (3, height, width)


def test_pillows_settings_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(PIXELS).save(path)
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    load_picture(path)
    load_mask(path, (40, 60), feather=2)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_the_file_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frame = Image.fromarray(PIXELS)
    frame.save(path, save_all=True, append_images=[frame.rotate(180)])  # Pillow keeps a moving picture's file open
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        load_picture(path)
        gc.collect()
    assert [warning for warning in seen if warning.category is ResourceWarning] == []
