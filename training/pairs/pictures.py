"""Pictures of others: checked before they are taken, and never decoded without a limit."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ...ip2p_pipeline.image_io import MAX_PIXELS, WHITE, Picture, read_pil, to_pil

MAX_BYTES = 256 << 20
AS_STORED = ("JPEG", "PNG", "WEBP")
ORIENTATION = 0x0112  # of EXIF


class SkipError(ValueError):
    """A row that can't be taken: the reason, by which rows are counted, and what was wrong with this one."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


def opened(content: bytes, name: str) -> Image.Image:
    """A picture file, not yet decoded. Raises SkipError for what is none, or too large."""
    if len(content) > MAX_BYTES:
        raise SkipError("too large", f"{name} is {len(content):,} bytes, more than {MAX_BYTES:,}")
    try:
        image = Image.open(BytesIO(content))
    except UnidentifiedImageError:
        raise SkipError("damaged picture", f"{name} is not a picture that Pillow can read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SkipError("too large", f"{name} has too many pixels") from None
    except Exception as error:  # damaged headers make Pillow's readers raise anything
        raise SkipError("damaged picture", f"{name} can't be opened as a picture ({error})") from None
    if image.width * image.height > MAX_PIXELS:
        raise SkipError("too large", f"{name} is {image.width}×{image.height}, more than {MAX_PIXELS:,} pixels")
    return image


def decoded(content: bytes, name: str) -> Picture:
    """A picture of any kind, upright. Raises SkipError."""
    with opened(content, name) as image:
        try:
            return read_pil(image, WHITE)
        except ValueError as error:
            raise SkipError("damaged picture", f"{name}: {error}".replace("The picture ", "it ")) from None


def as_rgb(content: bytes, name: str) -> Image.Image:
    """A picture of any kind, upright, over white where it is transparent. Raises SkipError."""
    with opened(content, name) as image:
        if is_plain(image):  # most are, and a training reads two of them for each example
            return loaded(image, name).copy()
    return to_pil(decoded(content, name).rgb)


def is_plain(image: Image.Image) -> bool:
    """Whether every reader shows a picture alike: of a common format, in colour, opaque, upright, and one alone."""
    if (
        image.format not in AS_STORED
        or image.mode != "RGB"
        or image.has_transparency_data
        or getattr(image, "is_animated", False)
    ):
        return False
    try:
        return image.getexif().get(ORIENTATION, 1) == 1
    except Exception:  # unreadable EXIF, which other readers may trip over
        return False


def loaded(image: Image.Image, name: str) -> Image.Image:
    """An opened picture, decoded. Raises SkipError."""
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # damaged data make Pillow's decoders raise anything
        raise SkipError("damaged picture", f"{name} can't be decoded ({error})") from None
    return image


def checked(content: bytes, name: str) -> tuple[bytes, tuple[int, int]]:
    """A picture file that decodes, with its width and height. Raises SkipError.

    JPEG, PNG and WebP in colour and upright are kept to the byte. Others become PNG: every reader shows them alike.
    """
    with opened(content, name) as image:
        if is_plain(image):
            return content, loaded(image, name).size
    upright = as_rgb(content, name)
    return png(upright), upright.size


def mask(content: bytes, name: str, size: tuple[int, int]) -> bytes | None:
    """Where an edit may happen, 255 and elsewhere 0, as PNG of this size; None where the picture tells of no place.

    The place is what is transparent, as DALL·E's masks and MagicBrush's have it; in an opaque picture what is white.
    Raises SkipError.
    """
    picture = decoded(content, name)
    if picture.alpha is not None and bool((picture.alpha < 1).any()):
        region = picture.alpha < 0.5
    else:
        darkest, brightest = picture.rgb.min(0).values, picture.rgb.max(0).values
        two_toned = bool(((brightest < 0.1) | (darkest > 0.9)).float().mean() > 0.99)
        region = darkest > (0.5 if two_toned else 0.98)  # a picture painted over in white
    if not bool(region.any()):
        return None
    image = Image.fromarray((region.to(torch.uint8) * 255).numpy().astype(np.uint8))
    return png(image if image.size == size else image.resize(size, Image.Resampling.NEAREST))


def png(image: Image.Image) -> bytes:
    """A picture as a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
