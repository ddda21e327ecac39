"""Curves, heat maps and tables as HTML and SVG that need nothing else."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 14, 46


@dataclass(frozen=True)
class Dot:
    """A place of a curve, with the ends of its intervals and what is said of it."""

    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    label: str
    note: str


@dataclass(frozen=True)
class Curve:
    """Dots joined in their order; alone it is a mark."""

    name: str
    dots: Sequence[Dot]


def line_chart(curves: Sequence[Curve], x_name: str, y_name: str, title: str) -> str:
    """Curves with error bars, as SVG; each dot says what it is when the pointer rests on it."""
    dots = [dot for curve in curves for dot in curve.dots]
    if not dots:
        return ""
    x_low, x_high = padded([end for dot in dots for end in dot.x_ends])
    y_low, y_high = padded([end for dot in dots for end in dot.y_ends])

    def x(value: float) -> float:
        return round(LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 2)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 2)

    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">']
    floor = HEIGHT - BOTTOM
    for tick in ticks(x_low, x_high):
        drawn.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{floor}"/>')
        drawn.append(f'<text x="{x(tick)}" y="{floor + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in ticks(y_low, y_high):
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(f'<text class="name" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    drawn.append(
        f'<text class="name" transform="translate(14 {(TOP + floor) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_name)}</text>"
    )
    for number, curve in enumerate(curves):
        drawn += curve_marks(curve, number, x, y)
    return "".join([*drawn, "</svg>"])


def curve_marks(curve: Curve, number: int, x, y) -> Iterator[str]:  # type: ignore[no-untyped-def]
    """A curve's band, line, error bars and dots."""
    yield f'<g class="c{number % 6}">'
    edges = [(dot.x, dot.y_ends[1]) for dot in curve.dots] + [(dot.x, dot.y_ends[0]) for dot in reversed(curve.dots)]
    if len(curve.dots) > 1:
        yield f'<polygon class="band" points="{" ".join(f"{x(across)},{y(up)}" for across, up in edges)}"/>'
    path = " ".join(f"{'M' if at == 0 else 'L'}{x(dot.x)} {y(dot.y)}" for at, dot in enumerate(curve.dots))
    yield f'<path class="line" d="{path}"/>'
    for dot in curve.dots:
        for ends in (dot.x_ends, dot.y_ends):
            across = ends is dot.x_ends
            x1, x2 = (x(end) for end in (ends if across else (dot.x, dot.x)))
            y1, y2 = (y(end) for end in ((dot.y, dot.y) if across else ends))
            yield f'<line class="error" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'
        yield f'<circle cx="{x(dot.x)}" cy="{y(dot.y)}" r="4"><title>{escape(dot.note)}</title></circle>'
    for dot in (curve.dots[0], curve.dots[-1]) if len(curve.dots) > 1 else curve.dots:
        yield f'<text class="at" x="{x(dot.x) + 7}" y="{y(dot.y) - 7}">{escape(dot.label)}</text>'
    yield "</g>"


def padded(values: Sequence[float]) -> tuple[float, float]:
    """A range that holds the values with a little room."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high), 1e-3) * 0.05
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers within a range."""
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def heat_map(values: dict[tuple[float, float], float], x_name: str, y_name: str, title: str) -> str:
    """A table whose cells are the darker, the higher their value; keys are (x, y)."""
    xs, ys = (sorted({key[side] for key in values}) for side in (0, 1))
    low, high = min(values.values()), max(values.values())
    rows = [f"<caption>{escape(title)}</caption>"]
    rows.append(f"<tr><th>{escape(y_name)} \\ {escape(x_name)}</th>" + "".join(f"<th>{x:g}</th>" for x in xs) + "</tr>")
    for y in ys:
        cells = []
        for x in xs:
            value = values.get((x, y))
            share = 0 if value is None or high == low else (value - low) / (high - low)
            told = "" if value is None else f"{value:.3f}"
            cells.append(f'<td class="n" style="--share:{share:.2f}">{told}</td>')
        rows.append(f"<tr><th>{y:g}</th>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table class="heat">{"".join(rows)}</table></div>'
