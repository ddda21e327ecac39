"""What the report of an evaluation says in words."""

from html import escape

from .metrics import base_name
from .summary import Comparison, Point

NAMES = {
    "directional_similarity": "CLIP directional similarity",
    "image_similarity": "CLIP image similarity",
    "caption_similarity": "CLIP caption similarity",
    "right": "right by the oracle",
    "kept": "the rest kept, by the oracle",
    "dino": "DINO similarity",
    "lpips": "LPIPS",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "l1": "L1",
    "l2": "L2",
}
EACH = 3  # best, median and worst edits of a method


def long_name(score: str) -> str:
    """A score in words."""
    ends = {"_to_wanted": ", to the wanted picture", "_as_published": ", as published"}
    return NAMES[base_name(score)] + "".join(words for end, words in ends.items() if end in score)


def short_name(score: str) -> str:
    """A score in few words."""
    return {"right": "right", "kept": "kept"}.get(score) or long_name(score).removeprefix("CLIP ")


def told_setting(point: Point, by: str) -> str:
    """Which setting of a method a sheet shows, and in which order."""
    setting = f"{point.label}: " if point.label else ""
    return (
        f"{setting}{EACH} best, median and worst by {long_name(by)}; before, after, and where the data has it wanted."
    )


def told_of(first: str, other: str, x: str, y: str, found: Comparison) -> str:
    """A comparison of curves as a row of a table."""
    cells = [first, other, long_name(y), long_name(x)]
    row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    if found.gain:
        mark = " best" if found.always else ""
        row += f'<td class="n">{found.at[0]:.3f} – {found.at[-1]:.3f}</td>'
        row += f'<td class="n{mark}">{min(found.gain):+.4f} to {max(found.gain):+.4f}<br>'
        row += f"<small>{min(found.low):+.4f} to {max(found.high):+.4f}</small></td>"
    else:
        row += '<td class="n" colspan="2">they reach no value in common</td>'
    return f'<tr>{row}<td class="n">{found.passed:.0%}</td></tr>'
