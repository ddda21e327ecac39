"""Contact sheets: pictures with words, drawn to be read at half their size."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT, EDGE = (255, 255, 255), (32, 32, 36), (120, 120, 128), (225, 225, 228)
GAP, SPACING = 24, 10  # around pictures, and between lines of text

# Files of fonts with many letters, by the names they usually have on Linux, macOS and Windows.
FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NanumGothic.ttf",
    "DejaVuSans.ttf",
    "AppleSDGothicNeo.ttc",
    "Arial Unicode.ttf",
    "malgun.ttf",
    "msyh.ttc",
)


class Column(NamedTuple):
    """What one column of a contact sheet shows."""

    before: Image.Image
    instruction: str
    after: Image.Image


def font(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow, or the first installed one that lacks fewer of the text's letters."""
    usual = ImageFont.load_default(size)
    assert isinstance(usual, ImageFont.FreeTypeFont)
    return min([usual, *installed(size)] if lacking(usual, text) else [usual], key=lambda face: lacking(face, text))


def installed(size: int) -> Iterator[ImageFont.FreeTypeFont]:
    """Those of FONTS that are on this machine."""
    for name in FONTS:
        with suppress(OSError):
            yield ImageFont.truetype(name, size)


def lacking(face: ImageFont.FreeTypeFont, text: str) -> int:
    """How many of the text's letters look like one that no font has."""
    none = bytes(face.getmask("\U0010ffff"))
    return sum(bytes(face.getmask(letter)) == none for letter in set(text) if not letter.isspace())


def tile(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture on paper, resized to fit into `size` (width, height), in the middle."""
    scale = min(size[0] / image.width, size[1] / image.height)
    fitted = image.convert("RGBA").resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    paper = Image.new("RGB", size, PAPER)
    paper.paste(fitted, ((size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2), fitted)
    return paper


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    """Break a text into lines of at most `width` pixels, between words, and within those that are longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and face.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and face.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def height_of(text: str, face: ImageFont.FreeTypeFont) -> int:
    """Of wrapped text in pixels, drawn with SPACING."""
    return (text.count("\n") + 1) * (round(face.getbbox("A")[3]) + SPACING)


def before_and_after(columns: Sequence[Column], side: int = 216) -> Image.Image:
    """Inputs, instructions and edits, one below the other.

    side: width and height of a tile in pixels
    """
    face = font(round(side * 0.12))
    left = GAP + round(max(map(face.getlength, ("input", "edit")))) + GAP // 2
    texts = [wrap(column.instruction, face, side) for column in columns]
    words = max(text.count("\n") + 1 for text in texts) * sum(face.getmetrics()) + GAP
    tops = {"input": GAP, "edit": GAP + side + words}
    sheet = Image.new("RGB", (left + len(columns) * (side + GAP), 2 * (GAP + side) + words), PAPER)
    draw = ImageDraw.Draw(sheet)
    for name, top in tops.items():
        draw.text((left - GAP // 2, top + side / 2), name, FAINT, face, anchor="rm")
    for i, (column, text) in enumerate(zip(columns, texts, strict=True)):
        x = left + i * (side + GAP)
        for image, top in ((column.before, tops["input"]), (column.after, tops["edit"])):
            sheet.paste(tile(image, (side, side)), (x, top))
            draw.rectangle((x, top, x + side - 1, top + side - 1), outline=EDGE)
        middle = (x + side / 2, GAP + side + words / 2)
        draw.multiline_text(middle, text, INK, face, anchor="mm", align="center")
    return sheet


def grid_sheet(
    original: Image.Image,
    cells: Sequence[Sequence[Image.Image]],
    title: str,
    note: str,
    row_names: Sequence[str],
    column_names: Sequence[str],
    side: int = 320,
    least_width: int = 720,
) -> Image.Image:
    """Cells in rows and columns with their names, the input beside the first row, a title and a note above.

    side:        longest side of a cell's picture in pixels
    least_width: of the sheet in pixels, for its words
    """
    large, small, faint = font(28, title), font(20), font(20, note)
    scale = side / max(original.size)
    width = max(round(original.width * scale), *(round(small.getlength(name)) for name in column_names))
    height = max(round(original.height * scale), 28)
    left = GAP + width + GAP + round(max(small.getlength(name) for name in row_names)) + GAP // 2
    total = max(left + len(column_names) * (width + GAP // 2) + GAP // 2, least_width)
    head, foot = wrap(title, large, total - 2 * GAP), wrap(note, faint, total - 2 * GAP)
    below_head = GAP + height_of(head, large) + GAP // 4
    top = below_head + height_of(foot, faint)
    sheet = Image.new("RGB", (total, top + 34 + len(cells) * (height + GAP // 2) + GAP // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((GAP, GAP), head, INK, large, spacing=SPACING)
    draw.multiline_text((GAP, below_head), foot, FAINT, faint, spacing=SPACING)
    draw.text((GAP + width / 2, top + 18), "input", INK, small, anchor="mm")
    sheet.paste(tile(original, (width, height)), (GAP, top + 34))
    for x, name in enumerate(column_names):
        draw.text((left + x * (width + GAP // 2) + width / 2, top + 18), name, INK, small, anchor="mm")
    for y, row in enumerate(cells):
        cell_top = top + 34 + y * (height + GAP // 2)
        draw.text((left - GAP // 2, cell_top + height / 2), row_names[y], INK, small, anchor="rm")
        for x, cell in enumerate(row):
            sheet.paste(tile(cell, (width, height)), (left + x * (width + GAP // 2), cell_top))
    return sheet
