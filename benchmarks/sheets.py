"""Pictures of the shapes world in labelled rows, for the documentation."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

SIDE = 128
LABEL, HEAD = 150, 40


def sheet(heads: Sequence[str], rows: Mapping[str, Sequence[np.ndarray]]) -> Image.Image:
    """A row for each label, a column under each head; pictures are [height, width, 3] of bytes."""
    made = Image.new("RGB", (LABEL + (SIDE + 2) * len(heads), HEAD + (SIDE + 2) * len(rows)), "white")
    draw = ImageDraw.Draw(made)
    for x, head in enumerate(heads):
        draw.multiline_text((LABEL + x * (SIDE + 2), 2), textwrap.fill(head, 20), fill="black", spacing=1)
    for y, (label, pictures) in enumerate(rows.items()):
        top = HEAD + y * (SIDE + 2)
        draw.text((4, top + SIDE // 2), label, fill="black")
        for x, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            made.paste(tile, (LABEL + x * (SIDE + 2), top))
    return made
