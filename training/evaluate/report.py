"""The report of an evaluation: a page that needs nothing else, and the same as JSON and CSV."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from io import StringIO
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_whole
from .chart import Curve, heat_map, line_chart
from .judge import Judgement
from .metrics import base_name
from .report_parts import SIDE, data_url, dot, known_only, legend, means_of, others, step_dot, wanted_of
from .report_style import STYLE
from .report_words import EACH, NAMES, long_name, short_name, told_of, told_setting
from .samples import Sample
from .store import Store
from .summary import Comparison, Point, best_point, compare, curve, decisive, goodness, in_words, sign_of

CURVES = (
    ("directional_similarity", "image_similarity"),
    ("directional_similarity_as_published", "image_similarity_as_published"),
    ("right", "kept"),
)


@dataclass(frozen=True)
class Report:
    """What a report tells.

    about:     settings and versions, by which it can be made again
    least:     how like the picture before, by CLIP, edits of a good setting are on average
    judgement: what a judge said
    """

    title: str
    points: Sequence[Point]
    samples: Sequence[Sample]
    store: Store
    about: dict[str, Any]
    problems: dict[str, int]
    least: float = 0.0
    judgement: Judgement = field(default_factory=Judgement)

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
                "keys": point.keys,
                "made_by": point.made_by,
                "scores": {name: dict(each._asdict()) for name, each in point.means.items() if np.isfinite(each.mean)},
                "runs": {name: means_of(values) for name, values in point.scores.items()},
            }
            for point in self.points
        ]
        compared = [
            {
                "first": one[0].method,
                "second": other[0].method,
                "dials": [others(one[0]), others(other[0])],
                "x": x,
                "y": y,
                **asdict(found),
            }
            for one, other, x, y, found in self.comparisons()
        ]
        preferred = {name: dict(each._asdict()) for name, each in self.judgement.preferred.items()}
        told = {"about": self.about, "samples": self.counted(), "points": points, "comparisons": compared}
        told |= {"judgement": {**vars(self.judgement), "preferred": preferred, "spent": self.spent()}}
        return json.dumps(known_only(told | {"problems": self.problems}), indent=2, default=str, allow_nan=False)

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
                f'<p class="soft">{self.counted():,} edits of each method and setting{self.runs_told()}. Bands, '
                "whiskers and small numbers are 95% intervals, by bootstrap.</p>",
                *self.curves(),
                *self.over_steps(),
                *self.heat_maps(),
                *self.tables(),
                *self.between_runs(),
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
        """Edits that are part of the averages: the most that were scored of any method and setting."""
        known = [~np.isnan(values).all(axis=0) for point in self.points for values in point.scores.values()]
        return max((int(each.sum()) for each in known), default=0)

    def score_names(self) -> list[str]:
        """All scores, those of `NAMES` first."""
        names = {name for point in self.points for name in point.means}
        known = list(NAMES)
        return sorted(names, key=lambda name: (name != base_name(name), known.index(base_name(name)), name))

    def methods(self) -> list[str]:
        """The methods, in their order."""
        return list(dict.fromkeys(point.method for point in self.points))

    def on_curve(self, method: str, x: str, y: str) -> list[Point]:
        """The points of a method that differ in its own dial alone, the other dials being those of its best setting."""
        found = curve(self.points, method, x, y)
        if not found:
            return []
        best = others(best_point(found, self.least))
        return [point for point in found if others(point) == best]

    def called(self, points: Sequence[Point]) -> str:
        """A curve's name: the method, and those of its other dials that were varied."""
        mine = [others(point) for point in self.points if point.method == points[0].method]
        varied = {name: v for name, v in others(points[0]).items() if any(each.get(name) != v for each in mine)}
        return ", ".join(filter(None, (points[0].method, in_words(varied))))

    def comparisons(self) -> Iterator[tuple[list[Point], list[Point], str, str, Comparison]]:
        """Each method's curves against those of each after it, where both have a dial."""
        for x, y in CURVES:
            curves = [self.on_curve(name, x, y) for name in self.methods()]
            for one, other in combinations([points for points in curves if len(points) > 1], 2):
                yield one, other, x, y, compare(one, other, x, y)

    def curves(self) -> Iterator[str]:
        """The paper's curves, and which is above which."""
        drawn = []
        for x, y in CURVES:
            # The picture left as it is lies far off, and would push all others into a corner.
            found = [self.on_curve(name, x, y) for name in self.methods() if name != "no edit"]
            lines = [Curve(self.called(each), [dot(point, x, y) for point in each]) for each in found if each]
            if any(len(line.dots) > 1 for line in lines):
                chart = line_chart(lines, long_name(x), long_name(y), f"{long_name(y)} over {long_name(x)}")
                drawn.append(f'<div class="card">{legend(lines)}{chart}</div>')
        if drawn:
            yield "<h2>Curves</h2>"
            yield '<div class="charts">' + "".join(drawn) + "</div>"
            yield '<p class="soft">No edit is not drawn: it would push all others into a corner. Where other dials '
            yield "were varied, a curve is of those of its method’s best setting.</p>"
        rows = [told_of(self.called(one), self.called(two), x, y, f) for one, two, x, y, f in self.comparisons()]
        if rows:
            yield "<h2>Which curve is above which</h2>"
            yield '<p class="soft">Where both reach the same value of one score, by how much the first is above the '
            yield "second in the other. Passed: how many settings of the second one of the first is beyond in both.</p>"
            yield '<div class="scroll"><table><tr><th>first</th><th>second</th><th>score</th><th>at the same</th>'
            yield '<th class="n">between</th><th class="n">first above second by</th><th class="n">passed</th></tr>'
            yield from rows
            yield "</table></div>"

    def over_steps(self) -> Iterator[str]:
        """What more steps of the sampler give, where their number was varied, at each method's best other dials."""
        lines: dict[str, list[Curve]] = {}
        for method in self.methods():
            mine = [point for point in self.points if point.method == method and "steps" in point.setting]
            groups: dict[str, list[Point]] = {}
            for point in mine:
                groups.setdefault(json.dumps({**point.setting, "steps": 0}, sort_keys=True), []).append(point)
            varied = [point for group in groups.values() if len(group) > 1 for point in group]
            if not varied:
                continue
            best = best_point(varied, self.least)
            same = next(group for group in groups.values() if any(point is best for point in group))
            for name in ("right", "directional_similarity", "image_similarity"):
                known = sorted((p for p in same if name in p.means), key=lambda point: point.setting["steps"])
                lines.setdefault(name, []).append(Curve(method, [step_dot(point, name) for point in known]))
        drawn = [
            f'<div class="card">{legend(curves)}{line_chart(curves, "steps", long_name(name), long_name(name))}</div>'
            for name, curves in lines.items()
            if any(curve.dots for curve in curves)
        ]
        if drawn:
            yield '<h2>Steps</h2><div class="charts">' + "".join(drawn) + "</div>"

    def heat_maps(self) -> Iterator[str]:
        """s_T × s_I, where both were varied."""
        dials = ("guidance_scale", "image_guidance_scale")
        for method in self.methods():
            mine = [p for p in self.points if p.method == method and set(dials) <= p.setting.keys()]
            if any(len({point.setting[dial] for point in mine}) < 2 for dial in dials):
                continue
            yield f"<h2>Both guidance scales: {escape(method)}</h2><div class=charts>"
            counts = sorted({point.setting["steps"] for point in mine})
            for name, steps in product(("right", "directional_similarity", "image_similarity"), counts):
                values = {
                    (p.setting[dials[1]], p.setting[dials[0]]): p.means[name].mean
                    for p in mine
                    if name in p.means and p.setting["steps"] == steps
                }
                if values:
                    told = f", {steps:g} steps" if len(counts) > 1 else ""
                    yield heat_map(values, "s_I", "s_T", long_name(name) + told)
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

    def between_runs(self) -> Iterator[str]:
        """How far trainings and seeds are apart, where there are several, at each method's best setting."""
        several = [name for name in self.methods() if any(p.method == name and len(p.keys) > 1 for p in self.points)]
        if not several:
            return
        names = self.score_names()
        yield "<h2>Between trainings and seeds</h2>"
        yield '<p class="soft">The standard deviation of single runs’ means, and the lowest and highest of these.</p>'
        yield '<div class="scroll"><table><tr><th>method</th><th>setting</th><th class="n">runs</th>'
        yield "".join(f'<th class="n">{escape(long_name(name))}</th>' for name in names) + "</tr>"
        for method in several:
            point = best_point([each for each in self.points if each.method == method], self.least)
            yield f'<tr><td>{escape(method)}</td><td>{escape(point.label)}</td><td class="n">{len(point.keys)}</td>'
            for name in names:
                runs = means_of(point.scores[name]) if name in point.scores else []
                ends = f"{np.std(runs, ddof=1):.4f}<br><small>{min(runs):.4f} – {max(runs):.4f}</small>" if runs else ""
                yield f'<td class="n">{ends}</td>'
            yield "</tr>"
        yield "</table></div>"

    def verdicts(self) -> Iterator[str]:
        """What the judge said, and cost."""
        spent = self.judgement.spent
        if spent is None:
            return
        yield '<h2>Preferred by the judge</h2><div class="scroll"><table>'
        for name, each in self.judgement.preferred.items():
            ends = f"{each.mean:.1%} <small>{each.low:.1%} – {each.high:.1%}</small>"
            told = "no verdict" if np.isnan(each.mean) else ends
            yield f'<tr><td>{escape(name)}</td><td class="n">{told}</td></tr>'
        yield "</table></div>"
        bill = "" if spent.cost is None else f", {spent.cost:,.2f} at the prices given"
        yield '<p class="soft">Each pair was shown in both orders; a preference that the order turns is a tie. '
        yield f"{spent.answers:,} answers, {spent.unclear:,} of them without a verdict; {spent.prompt_tokens:,} prompt "
        yield f"and {spent.completion_tokens:,} completion tokens{bill}. {escape(self.judgement.stopped)}</p>"

    def spent(self) -> dict[str, Any] | None:
        """What the judge was asked and cost."""
        return None if self.judgement.spent is None else asdict(self.judgement.spent)

    def runs_told(self) -> str:
        """How many runs are averaged, where there are several."""
        most = max(len(point.keys) for point in self.points)
        return f", and of up to {most} trainings and seeds" if most > 1 else ""

    def best(self, name: str) -> Point | None:
        """The point with the best mean; the picture left as it is does not count: likeness alone is no merit."""
        known = [
            p for p in self.points if name in p.means and np.isfinite(p.means[name].mean) and p.method != "no edit"
        ]
        return max(known, key=lambda point: goodness(point, name), default=None)

    def sheets(self) -> Iterator[str]:
        """The best, median and worst edits of each method, at its best setting."""
        counted = [sample for sample in self.samples if sample.counted]
        for method in self.methods():
            if method == "no edit":
                continue
            point = best_point([point for point in self.points if point.method == method], self.least)
            by = "directional_similarity" if "directional_similarity" in point.scores else decisive(point)
            if by is None:
                continue
            values = sign_of(by) * point.scores[by][0]
            order = [int(at) for at in np.argsort(-values, kind="stable") if np.isfinite(values[at])]
            middle = max(0, len(order) // 2 - 1)
            chosen = {"best": order[:EACH], "median": order[middle : middle + EACH], "worst": order[-EACH:]}
            yield f"<h2>Edits: {escape(method)}</h2>"
            yield f'<p class="soft">{escape(told_setting(point, by))}</p><div class="edits">'
            for what, places in chosen.items():
                for place in places:
                    yield self.edit(point, counted[place], place, what)
            yield "</div>"

    def edit(self, point: Point, sample: Sample, place: int, what: str) -> str:
        """An edit: the picture before, and after, with its scores."""
        after = self.store.picture(point.keys[0], sample.id)
        before = sample.picture() if sample.after is None else self.store.picture(point.keys[0], sample.after)
        pictures = [picture for picture in (before, after, wanted_of(sample)) if picture is not None]
        small = " pixels" if pictures and max(pictures[0].size) <= SIDE // 2 else ""
        names = [name for name in self.score_names() if name in point.scores]
        scores = " · ".join(f"{short_name(name)} {point.scores[name][0][place]:.3f}" for name in names[:6])
        images = "".join(f'<img alt="" loading="lazy" src="{data_url(picture)}">' for picture in pictures)
        return (
            f'<figure class="card"><div class="pictures{small}">{images}</div>'
            f"<figcaption>{escape(sample.edit_prompt)}<small>{what} · {escape(scores)}</small></figcaption></figure>"
        )

    def failures(self) -> Iterator[str]:
        """Pictures that could not be read."""
        if self.problems:
            yield f"<h2>Could not be read: {sum(self.problems.values()):,}</h2>"
            for problem in list(self.problems)[:20]:
                yield f"<p>{escape(problem)}</p>"
