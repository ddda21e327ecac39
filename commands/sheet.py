"""Contact sheets: pictures with words, drawn to be read at half their size."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT, EDGE = (255, 255, 255), (32, 32, 36), (120, 120, 128), (225, 225, 228)
GAP = 24


class Column(NamedTuple):
    """What one column of a contact sheet shows."""

    before: Image.Image
    instruction: str
    after: Image.Image


def font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow."""
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


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
    """Break a text into lines of at most `width` pixels, between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and face.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


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
) -> Image.Image:
    """Cells in rows and columns with their names, the input beside the first row, a title and a note above.

    side: longest side of a cell in pixels
    """
    scale = side / max(original.size)
    width, height = (max(1, round(length * scale)) for length in original.size)
    large, small = font(28), font(20)
    left = GAP + width + GAP + round(max(small.getlength(name) for name in row_names)) + GAP // 2
    total = left + len(column_names) * (width + GAP // 2) + GAP // 2
    head = wrap(title, large, total - 2 * GAP)
    top = GAP + (head.count("\n") + 1) * 36 + 30
    sheet = Image.new("RGB", (total, top + 34 + len(cells) * (height + GAP // 2) + GAP // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((GAP, GAP), head, INK, large, spacing=4)
    draw.text((GAP, top - 26), note, FAINT, small)
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
