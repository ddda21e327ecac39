"""The report of an evaluation: a page that needs nothing else, and the same as JSON and CSV."""

import base64
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import write_whole
from .chart import Curve, Dot, heat_map, line_chart
from .intervals import Interval
from .metrics import HIGHER_IS_BETTER, base_name
from .report_style import STYLE
from .samples import Sample
from .store import Store
from .summary import Comparison, Point, compare, curve

NAMES = {
    "directional_similarity": "CLIP directional similarity",
    "image_similarity": "CLIP image similarity",
    "caption_similarity": "CLIP caption similarity",
    "right": "right by the oracle",
    "dino": "DINO similarity",
    "lpips": "LPIPS",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "l1": "L1",
    "l2": "L2",
}
CURVES = (
    ("directional_similarity", "image_similarity"),
    ("directional_similarity_as_published", "image_similarity_as_published"),
    ("image_similarity", "right"),
)
SIDE = 320  # of pictures, at most
EACH = 3  # best, median and worst edits of a method


@dataclass(frozen=True)
class Report:
    """What a report tells.

    about:  settings and versions, by which it can be made again
    judged: how often a judge prefers the first method, by what it was compared with
    """

    title: str
    points: Sequence[Point]
    samples: Sequence[Sample]
    store: Store
    about: dict[str, Any]
    problems: dict[str, int]
    judged: dict[str, Interval] = field(default_factory=dict)

    def write(self, folder: Path) -> list[Path]:
        """Write report.html, report.json and report.csv; their paths."""
        files = {"report.html": self.page(), "report.json": self.json(), "report.csv": self.csv()}
        for name, content in files.items():
            write_whole(folder / name, content.encode())
        return [folder / name for name in files]

    def json(self) -> str:
        """All means and intervals, the comparisons of curves, and what made them."""
        points = [
            {
                "method": point.method,
                "setting": point.setting,
                "scores": {name: dict(each._asdict()) for name, each in point.means.items()},
            }
            for point in self.points
        ]
        compared = [
            {"first": one, "second": other, "x": x, "y": y, "at": found.at, "gain": found.gain}
            for one, other, x, y, found in self.comparisons()
        ]
        judged = {name: dict(each._asdict()) for name, each in self.judged.items()}
        told = {"about": self.about, "samples": self.counted(), "points": points, "comparisons": compared}
        told |= {"judged": judged}
        return json.dumps(told | {"problems": self.problems}, indent=2, default=str)

    def csv(self) -> str:
        """A line a method and setting."""
        file = StringIO()
        names = self.score_names()
        dials = sorted({name for point in self.points for name in point.setting})
        lines = csv.writer(file)
        lines.writerow(["method", *dials, *(f"{n}{end}" for n in names for end in ("", "_low", "_high"))])
        for point in self.points:
            ends = [end for name in names for end in point.means.get(name, ("", "", ""))]
            lines.writerow([point.method, *(point.setting.get(dial, "") for dial in dials), *ends])
        return file.getvalue()

    def page(self) -> str:
        """The page."""
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
                "style-src 'unsafe-inline'\">",
                f"<title>{escape(self.title)}</title><style>{STYLE}</style></head><body><main>",
                f"<h1>{escape(self.title)}</h1>",
                f'<p class="soft">{self.counted():,} edits of each method and setting. Whiskers and small numbers are '
                "95% intervals, by bootstrap.</p>",
                *self.curves(),
                *self.heat_maps(),
                *self.tables(),
                *self.verdicts(),
                *self.sheets(),
                *self.failures(),
                f"<details><summary>How to make it again</summary><div class=card><pre>"
                f"{escape(json.dumps(self.about, indent=2, default=str))}</pre></div></details>",
                "</main></body></html>",
                "",
            ]
        )

    def counted(self) -> int:
        """Edits that are part of the averages."""
        return sum(sample.counted for sample in self.samples)

    def score_names(self) -> list[str]:
        """All scores, those of `NAMES` first."""
        names = {name for point in self.points for name in point.means}
        known = list(NAMES)
        return sorted(names, key=lambda name: (name != base_name(name), known.index(base_name(name)), name))

    def methods(self) -> list[str]:
        """The methods, in their order."""
        return list(dict.fromkeys(point.method for point in self.points))

    def on_curve(self, method: str, x: str, y: str) -> list[Point]:
        """The points of a method that differ in its own dial alone: those of the most common other dials."""
        found = curve(self.points, method, x, y)
        others = [json.dumps({k: v for k, v in p.setting.items() if k != p.dial}, sort_keys=True) for p in found]
        if not others:
            return []
        common = max(others, key=others.count)
        return [point for point, other in zip(found, others, strict=True) if other == common]

    def comparisons(self) -> Iterator[tuple[str, str, str, str, Comparison]]:
        """The first method's curves against those of each other one that has a dial."""
        first, *others = self.methods()
        for x, y in CURVES[:2]:
            one = self.on_curve(first, x, y)
            for name in others:
                other = self.on_curve(name, x, y)
                if len(one) > 1 and len(other) > 1:
                    yield first, name, x, y, compare(one, other, x, y)

    def curves(self) -> Iterator[str]:
        """The paper's curves."""
        drawn = []
        for x, y in CURVES:
            lines = [Curve(name, [dot(p, x, y) for p in self.on_curve(name, x, y)]) for name in self.methods()]
            shown = [line for line in lines if line.dots]
            if any(len(line.dots) > 1 for line in shown):
                chart = line_chart(lines, long_name(x), long_name(y), f"{long_name(y)} over {long_name(x)}")
                drawn.append(f'<div class="card">{legend(lines)}{chart}</div>')
        if drawn:
            yield "<h2>Curves</h2>"
            yield '<div class="charts">' + "".join(drawn) + "</div>"
            for first, name, x, y, found in self.comparisons():
                yield f'<p class="soft">{escape(told_of(first, name, x, y, found))}</p>'

    def heat_maps(self) -> Iterator[str]:
        """s_T × s_I, where both were varied."""
        dials = ("guidance_scale", "image_guidance_scale")
        for method in self.methods():
            mine = [p for p in self.points if p.method == method and set(dials) <= p.setting.keys()]
            if any(len({point.setting[dial] for point in mine}) < 2 for dial in dials):
                continue
            yield f"<h2>Both guidance scales: {escape(method)}</h2><div class=charts>"
            for name in ("right", "directional_similarity", "image_similarity"):
                values = {
                    (p.setting[dials[1]], p.setting[dials[0]]): p.means[name].mean for p in mine if name in p.means
                }
                if values:
                    yield heat_map(values, "s_I", "s_T", long_name(name))
            yield "</div>"

    def tables(self) -> Iterator[str]:
        """Every method and setting, the best of each score marked."""
        names = self.score_names()
        best = {name: self.best(name) for name in names}
        yield '<h2>Scores</h2><div class="scroll"><table><tr><th>method</th><th>setting</th>'
        yield "".join(f'<th class="n">{escape(long_name(name))}</th>' for name in names) + "</tr>"
        for point in self.points:
            cells = []
            for name in names:
                each = point.means.get(name)
                if each is None or not np.isfinite(each.mean):
                    cells.append("<td></td>")
                    continue
                mark = " best" if best[name] is point else ""
                cells.append(
                    f'<td class="n{mark}">{each.mean:.4f}<br><small>{each.low:.4f} – {each.high:.4f}</small></td>'
                )
            yield f"<tr><td>{escape(point.method)}</td><td>{escape(point.label)}</td>{''.join(cells)}</tr>"
        yield "</table></div>"

    def verdicts(self) -> Iterator[str]:
        """What the judge said."""
        if self.judged:
            yield '<h2>Preferred by the judge</h2><div class="scroll"><table>'
            for name, each in self.judged.items():
                ends = f"{each.low:.1%} – {each.high:.1%}"
                yield f'<tr><td>{escape(name)}</td><td class="n">{each.mean:.1%} <small>{ends}</small></td></tr>'
            yield "</table></div>"

    def best(self, name: str) -> Point | None:
        """The point with the best mean; the picture left as it is does not count: likeness alone is no merit."""
        known = [
            p for p in self.points if name in p.means and np.isfinite(p.means[name].mean) and p.method != "no edit"
        ]
        sign = 1 if HIGHER_IS_BETTER.get(base_name(name), True) else -1
        return max(known, key=lambda point: sign * point.means[name].mean, default=None)

    def sheets(self) -> Iterator[str]:
        """The best, median and worst edits of each method, at its best setting."""
        counted = [sample for sample in self.samples if sample.counted]
        for method in self.methods():
            if method == "no edit":
                continue
            mine = [point for point in self.points if point.method == method]
            score = next((name for name in ("right", "directional_similarity") if name in mine[0].means), None)
            if score is None:
                continue
            point = max(mine, key=lambda point: point.means[score].mean)
            by = "directional_similarity" if "directional_similarity" in point.scores else score
            order = [int(at) for at in np.argsort(-point.scores[by][0]) if np.isfinite(point.scores[by][0][at])]
            middle = max(0, len(order) // 2 - 1)
            chosen = {"best": order[:EACH], "median": order[middle : middle + EACH], "worst": order[-EACH:]}
            yield f"<h2>Edits: {escape(method)}</h2>"
            yield f'<p class="soft">{escape(point.label)}; ordered by {escape(long_name(by))}.</p><div class="edits">'
            for what, places in chosen.items():
                for place in places:
                    yield self.edit(point, counted[place], place, what)
            yield "</div>"

    def edit(self, point: Point, sample: Sample, place: int, what: str) -> str:
        """An edit: the picture before, and after, with its scores."""
        after = self.store.picture(point.keys[0], sample.id)
        before = sample.picture() if sample.after is None else self.store.picture(point.keys[0], sample.after)
        pictures = [picture for picture in (before, after) if picture is not None]
        small = " pixels" if pictures and max(pictures[0].size) <= SIDE // 2 else ""
        names = [name for name in NAMES if name in point.scores and np.isfinite(point.scores[name][0][place])]
        scores = " · ".join(f"{name.replace('_', ' ')} {point.scores[name][0][place]:.3f}" for name in names[:4])
        images = "".join(f'<img alt="" loading="lazy" src="{data_url(picture)}">' for picture in pictures)
        return (
            f'<figure class="card"><div class="pictures{small}">{images}</div>'
            f"<figcaption>{escape(sample.edit_prompt)}<small>{what} · {escape(scores)}</small></figcaption></figure>"
        )

    def failures(self) -> Iterator[str]:
        """What could not be made or scored."""
        if self.problems:
            yield f"<h2>Left out: {sum(self.problems.values()):,}</h2>"
            for problem in list(self.problems)[:20]:
                yield f"<p>{escape(problem)}</p>"


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


def long_name(score: str) -> str:
    """A score in words."""
    ends = {"_to_wanted": ", to the wanted picture", "_as_published": ", as published"}
    return NAMES[base_name(score)] + "".join(words for end, words in ends.items() if end in score)


def told_of(first: str, other: str, x: str, y: str, found: Comparison) -> str:
    """A comparison of curves in a sentence."""
    if not found.gain:
        return f"{first} and {other} share no {long_name(x)}."
    least, most = min(found.gain), max(found.gain)
    where = f"between {found.at[0]:.3f} and {found.at[-1]:.3f} of {long_name(x)}"
    above = "is above" if found.always else "is not always above"
    return f"{first} {above} {other} in {long_name(y)} {where}: by {least:+.4f} to {most:+.4f}."


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
