"""Parts of an evaluation's report: dots of its charts, numbers as JSON has them, and pictures inside a page."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from .chart import Curve, Dot
from .report_words import long_name
from .samples import Sample
from .summary import Point

SIDE = 320  # of pictures, at most


def wanted_of(sample: Sample) -> Image.Image | None:
    """The picture wanted; None where there is none, or none that can be read, which is told among the problems."""
    try:
        return sample.wanted() if sample.wanted is not None else None
    except ValueError:
        return None


def others(point: Point) -> dict[str, float]:
    """A point's dials but for the one along its curve."""
    return {name: value for name, value in point.setting.items() if name != point.dial}


def dot(point: Point, x: str, y: str) -> Dot:
    """A point of a curve."""
    across, up = point.means[x], point.means[y]
    label = f"{point.setting[point.dial]:g}" if point.dial in point.setting else point.method
    note = f"{point.method}, {point.label}: {long_name(x)} {across.mean:.4f}, {long_name(y)} {up.mean:.4f}"
    return Dot(across.mean, up.mean, (across.low, across.high), (up.low, up.high), label, note)


def legend(curves: Sequence[Curve]) -> str:
    """Which colour is which method."""
    told = "".join(
        f'<span><i class="c{number % 6}"></i>{escape(curve.name)}</span>'
        for number, curve in enumerate(curves)
        if curve.dots
    )
    return f'<p class="legend">{told}</p>'


def step_dot(point: Point, name: str) -> Dot:
    """A score over the steps that it took."""
    steps, each = point.setting["steps"], point.means[name]
    note = f"{point.method}, {point.label}: {long_name(name)} {each.mean:.4f}"
    return Dot(steps, each.mean, (steps, steps), (each.low, each.high), "", note)


def known_only(told: Any) -> Any:
    """What is told, with null for numbers that are not known: JSON has no NaN."""
    if isinstance(told, dict):
        return {name: known_only(each) for name, each in told.items()}
    if isinstance(told, list | tuple):
        return [known_only(each) for each in told]
    return None if isinstance(told, float) and not np.isfinite(told) else told


def means_of(values: np.ndarray) -> list[float]:
    """The mean of each run."""
    known = np.isfinite(values)
    return [float(row[has].mean()) if has.any() else float("nan") for row, has in zip(values, known, strict=True)]


def data_url(picture: Image.Image) -> str:
    """A small copy of a picture, inside the page."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = BytesIO()
    if max(small.size) <= SIDE // 2:
        small.save(file, "PNG")
        kind = "png"
    else:
        small.save(file, "JPEG", quality=88)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
