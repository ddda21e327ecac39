"""Any picture in, the same size out: what the pipeline does with pixels before and after the model.

Inside, a picture is a float32 tensor [3,H,W] of sRGB values in [0,1], upright, on the CPU. 8-bit pixels pass through
unchanged to the bit wherever nothing had to be resized. Nothing here depends on a model, and no setting of Pillow's is
changed.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

ImageInput: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor

MAX_PIXELS = 8192 * 8192
"""Pictures with more pixels than this are refused, files before they are decoded (about 800 MB as float32 RGB)."""

WHITE = (255, 255, 255)

# EXIF orientation → what sets the picture upright (EXIF 2.32, tag 0x0112).
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Rounding noise of float pictures that still counts as inside the range.
TOLERANCE = 1e-3


# ----------------------------------------------------------------------------
# In.


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the model needs it.

    rgb:        [3,H,W] float32 in [0,1], composited over the background where the picture was transparent.
    alpha:      [H,W] float32 in [0,1], None for a picture without transparency. For `to_pil`, to re-apply it.
    straight:   [3,H,W], the colours as they were stored, without the background; `rgb` itself where all is opaque.
    """

    rgb: Tensor
    alpha: Tensor | None
    straight: Tensor


def load_picture(image: ImageInput, background: Sequence[int] = WHITE) -> Picture:
    """Read one picture of any kind.

    image:
        path            a local file in any format of Pillow's but EPS; the first frame of an animation.
        PIL.Image       any mode; EXIF orientation is applied, and dropped. I and F hold 8-bit or 16-bit values,
                        F also 0..1: the smallest of these ranges that holds the picture's brightest value is taken.
        numpy array     [H,W] or [H,W,C] with C of 1, 3 or 4; uint8, uint16, bool, or float in [0,1].
        torch tensor    [H,W] or [C,H,W] with C of 1, 3 or 4; the same types, and float in [-1,1] when a value is
                        below 0 (diffusers' convention).
    background:         RGB, 0..255, shown where the picture is transparent.

    Raises FileNotFoundError for a missing file, TypeError for what is no picture, and ValueError for a file that can't
    be decoded, more than MAX_PIXELS, a shape, type or range not listed above.
    """
    if isinstance(image, str | Path):
        return read_file(Path(image), background)
    if isinstance(image, Image.Image):
        return read_pil(image, background)
    array = channels_last(image)
    if array.ndim == 4:
        raise ValueError(f"A batch of {len(array)} pictures was given where one is expected.")
    return read_array(array, background)


def load_pictures(images: Any, background: Sequence[int] = WHITE) -> list[Picture]:
    """Read one picture, a list or tuple of them (kinds and sizes may differ), or a batched array or tensor.

    A batch is a numpy array [B,H,W,C] or a torch tensor [B,C,H,W]; its value range is judged as a whole. Otherwise as
    `load_picture`. Raises ValueError when there is no picture at all.
    """
    if isinstance(images, list | tuple):
        pictures = [picture for image in images for picture in load_pictures(image, background)]
    elif isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        pictures = [read_array(array, background) for array in channels_last(images)]
    else:
        pictures = [load_picture(images, background)]
    if not pictures:
        raise ValueError("There is no picture to edit: the list or batch is empty.")
    return pictures


def read_file(path: Path, background: Sequence[int], exif: bool = True) -> Picture:
    """Read a local picture file; without `exif`, as it is stored."""
    if re.match(r"(https?|ftp|data):", str(path), re.IGNORECASE):
        raise ValueError(f"{str(path)[:100]} is not a local file: download the picture and pass its path.")
    # Not Path.is_file and Path.is_dir: they raise for a name that is too long.
    if os.path.isdir(path):  # noqa: PTH112
        raise ValueError(f"{path} is a folder, not a picture.")
    if not os.path.isfile(path):  # noqa: PTH113
        raise FileNotFoundError(f"There is no picture at {path}.")
    try:
        image = Image.open(path)
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise ValueError(
            f"{path} is empty (0 bytes)." if empty else f"{path} is not a picture that Pillow can read."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} has too many pixels. {error}") from error
    except Exception as error:  # damaged headers make Pillow's readers raise anything
        raise ValueError(f"{path} can't be opened as a picture ({error}).") from error
    with image:
        return read_pil(image, background, exif)


def read_pil(image: Image.Image, background: Sequence[int], exif: bool = True) -> Picture:
    """Read a PIL image, likewise."""
    name = str(getattr(image, "filename", "")) or "The picture"
    _check_size(name, image.height, image.width, Image.MAX_IMAGE_PIXELS)
    if image.format == "EPS":
        raise ValueError(f"{name} is an EPS file, a program for Ghostscript, which is not run: export it as PNG.")
    try:
        decoded = _rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # as above: damaged data make Pillow's decoders raise anything
        raise ValueError(f"{name} can't be decoded, it is damaged or cut short ({error}).") from error
    _check_size(name, decoded.height, decoded.width)  # an icon's header may promise less than what is inside
    if exif and (turn := _UPRIGHT.get(_orientation(image))) is not None:
        decoded = decoded.transpose(turn)
    if decoded.mode in ("RGB", "RGBA"):
        return read_array(np.asarray(decoded), background)
    return _from_deep_grey(decoded, name, background)


def _rgb(image: Image.Image) -> Image.Image:
    """Decoded, as RGB, or RGBA when anything may be transparent; grey of more than 8 bits as it is."""
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return image
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # unreadable EXIF: the picture is shown as it is stored, as viewers do
        return 1


def _from_deep_grey(image: Image.Image, name: str, background: Sequence[int]) -> Picture:
    """One channel of more than 8 bits, which Pillow's own conversion to RGB would clip to white."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains NaN or infinite values.")
    ranges = {"I": [255, 65535], "F": [1, 255, 65535]}.get(image.mode, [65535])
    brightest = next((limit for limit in ranges if values.max() <= limit), None)
    if brightest is None or values.min() < 0:
        raise ValueError(
            f"{name} holds values from {values.min()} to {values.max()}: scale them to 0..255 (8 bits), "
            "0..65535 (16 bits) or, for mode F, 0..1."
        )
    grey = values.astype(np.float32)[..., None] / brightest
    if "transparency" not in image.info:
        return read_array(grey, background)
    opaque = (values != image.info["transparency"]).astype(np.float32)[..., None]
    return read_array(np.concatenate([grey, grey, grey, opaque], axis=-1), background)


def channels_last(image: Any) -> np.ndarray:
    """An array or tensor as numpy [H,W], [H,W,C] or [B,H,W,C], a tensor in [-1,1] brought to [0,1]."""
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, Tensor):
        raise TypeError(
            f"A picture is a path, a PIL image, a numpy array or a torch tensor, not {type(image).__name__}."
        )
    image = image.detach().cpu()
    if image.is_floating_point():
        image = image.float()
        if image.numel() and -1 - TOLERANCE <= image.min() < -TOLERANCE:
            image = image / 2 + 0.5
    if image.ndim == 2:
        return image.numpy()
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3, 4):
        raise ValueError(
            f"A torch tensor of shape {_shape(image)} is not a picture, channels×height×width with 1, 3 or 4 channels: "
            "permute it."
        )
    return image.movedim(-3, -1).numpy()


def read_array(array: np.ndarray, background: Sequence[int]) -> Picture:
    """[H,W] or [H,W,C] of any accepted type."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"An array of shape {_shape(array)} is not a picture, height×width or height×width×channels with 1, 3 or "
            "4 channels: transpose it."
        )
    _check_size("The picture", *array.shape[:2])
    pixels = torch.from_numpy(_unit_range(array)).reshape(*array.shape[:2], -1).permute(2, 0, 1)
    rgb = pixels[:3] if len(pixels) >= 3 else pixels.expand(3, -1, -1)
    rgb = rgb.contiguous()
    if len(pixels) < 4:
        return Picture(rgb, None, rgb)
    alpha = pixels[3].contiguous()
    return Picture(rgb * alpha + _behind(background) * (1 - alpha), alpha, rgb)


def _behind(background: Sequence[int]) -> Tensor:
    """The background as [3,1,1] in [0,1]."""
    if isinstance(background, str) or len(background) != 3 or not all(0 <= value <= 255 for value in background):
        raise ValueError(f"background is a colour of three values in 0..255, not {background!r}.")
    return torch.tensor(background, dtype=torch.float32)[:, None, None] / 255


def uncomposite(rgb: Tensor, alpha: Tensor, background: Sequence[int]) -> Tensor:
    """The colours [3,H,W] that, shown with `alpha` [H,W] over the background, look as `rgb` does.

    Where no colour in [0,1] would, the nearest; where nothing shows, `rgb` itself.
    """
    shows = alpha > 0
    straight = (rgb - _behind(background) * (1 - alpha)) / torch.where(shows, alpha, 1.0)
    return torch.where(shows, straight, rgb).clamp(0, 1)


def _unit_range(array: np.ndarray) -> np.ndarray:
    """Values as float32 in [0,1], in memory of their own."""
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(np.float32) / np.iinfo(array.dtype).max
    if array.dtype.kind != "f":
        raise ValueError(f"Pixels of type {array.dtype} have no known range: use uint8, uint16, bool or float in 0..1.")
    if not np.isfinite(array).all():
        raise ValueError("The picture contains NaN or infinite values.")
    low, high = array.min(), array.max()
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"The picture holds floats from {low:.4g} to {high:.4g}: scale them to 0..1 (torch tensors also -1..1), "
            "or use uint8; latents are given as image_latents."
        )
    return array.astype(np.float32).clip(0, 1)


def _check_size(name: str, height: int, width: int, pillow_limit: int | None = None) -> None:
    limit = min(MAX_PIXELS, pillow_limit or MAX_PIXELS)
    if height * width == 0:
        raise ValueError(f"{name} has no pixels: it is {width}×{height}.")
    if height * width > limit:
        raise ValueError(f"{name} is {width}×{height}, more than {limit:,} pixels: make it smaller first.")


def _shape(array: Any) -> str:
    return "×".join(str(side) for side in array.shape)


# ----------------------------------------------------------------------------
# To the model's sizes and back.


@dataclass(frozen=True)
class Fit:
    """What `fit_picture` did, for `restore` to undo: sizes (height, width), padding (left, right, top, bottom)."""

    original: tuple[int, int]
    resized: tuple[int, int]
    padding: tuple[int, int, int, int]


def fit_picture(
    rgb: Tensor, multiple: int, resolution: int | None = None, how: Literal["pad", "resize"] = "pad"
) -> tuple[Tensor, Fit]:
    """Bring a picture [C,H,W], or a mask as [1,H,W], to a size whose sides are multiples of `multiple`.

    resolution:     the longest side in pixels, the aspect kept. None keeps the picture's own size. No side is shrunk
                    below one multiple, so that the thinnest picture keeps its pixels.
    how "pad":      repeats the edge pixels outwards, half on each side: the model sees a picture that goes on, and
                    what it does worse along its borders falls on pixels that are cut off again, on all four sides.
    how "resize":   stretches each side to its nearest multiple, at least one.

    A size that fits already comes back as it is. Resizing is Lanczos, antialiased, in float. Raises ValueError for a
    resolution below 1 or so high that the working size passes MAX_PIXELS, and for another `how`.
    """
    if how not in ("pad", "resize"):
        raise ValueError(f'fit is "pad" or "resize", not {how!r}.')
    if resolution is not None and resolution < 1:
        raise ValueError(f"resolution is the longest side in pixels, at least 1, not {resolution}.")
    height, width = original = (rgb.shape[-2], rgb.shape[-1])
    if resolution is not None:
        scale = resolution / max(original)
        height = max(round(height * scale), min(height, multiple))
        width = max(round(width * scale), min(width, multiple))
    if how == "resize":
        height = max(round(height / multiple), 1) * multiple
        width = max(round(width / multiple), 1) * multiple
    _check_size("The working size", height, width)

    rows, columns = -height % multiple, -width % multiple
    padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    fitted = _resize(rgb, (height, width))
    if any(padding):
        fitted = F.pad(fitted, padding, mode="replicate")
    return fitted, Fit(original, (height, width), padding)


def restore(edited: Tensor, fit: Fit) -> Tensor:
    """Undo `fit_picture` on the edited picture [C,h,w]: crop the padding, resize back. Gives [C,H,W], exactly."""
    left, _, top, _ = fit.padding
    height, width = fit.resized
    return _resize(edited[:, top : top + height, left : left + width], fit.original)


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Lanczos, channel by channel in Pillow's float mode: torch has no Lanczos, and 8 bits would round twice."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    channels = [Image.fromarray(channel) for channel in pixels.detach().float().cpu().numpy()]
    resized = [np.asarray(channel.resize((size[1], size[0]), Image.Resampling.LANCZOS)) for channel in channels]
    return torch.from_numpy(np.stack(resized)).clamp(0, 1).to(pixels)


# ----------------------------------------------------------------------------
# Out.


def to_pil(rgb: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """A picture [3,H,W] in [0,1] as an RGB image, or RGBA with `alpha` [H,W]. 8-bit pixels come back exactly."""
    pixels = rgb if alpha is None else torch.cat([rgb, alpha[None].to(rgb)])
    values = (pixels.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


def as_output(images: list[Tensor], alphas: list[Tensor | None], output_type: str) -> Any:
    """Pictures [3,H,W], or latents, as the caller wants them: one array, or a list where shapes differ."""
    if output_type == "pil":
        return [to_pil(rgb, alpha) for rgb, alpha in zip(images, alphas, strict=True)]
    if output_type != "latent":
        images = [rgb if a is None else torch.cat([rgb, a[None]]) for rgb, a in zip(images, alphas, strict=True)]
    if output_type == "np":
        arrays = [image.permute(1, 2, 0).numpy() for image in images]
        return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays
    return torch.stack(images) if len({image.shape for image in images}) == 1 else images
