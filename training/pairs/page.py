"""A dataset of pairs as one page: a sample of its triplets, its scores, and what was dropped and why.

The page needs nothing else: pictures are inside, small. All texts of the dataset are escaped.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .card import VERDICTS
from .features import KEPT
from .page_style import STYLE
from .pictures import SkipError, as_rgb
from .run_folder import read_settings
from .sample import sample_triplets
from .shards import shards
from .tally import BINS, Histogram, Tally, count_examples, count_run

SIDE = 256  # of pictures, at most
BARS = 40  # of a chart, at most
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 320, 140, 4, 16, 20
CHARTS = {
    "directional_similarity": ("Change of pictures and of captions", "min_directional_similarity"),
    "image_similarity": ("Picture before and after", "min_image_similarity"),
    "original_caption_similarity": ("Picture before and its caption", "min_caption_similarity"),
    "edited_caption_similarity": ("Picture after and its caption", "min_caption_similarity"),
    "p": ("p, steps under Prompt-to-Prompt", None),
}
SCORES = {"directional_similarity": "direction", "image_similarity": "image", "p": "p", "guidance_scale": "guidance"}


def page(dataset: Path, sample: int = 8, seed: int = 0) -> str:
    """The page of a run's folder, finished or not, an import's, or a Parquet file of examples."""
    settings: dict[str, Any] = {}
    if dataset.is_dir():
        settings = read_settings(dataset) or {}
        files, tally = shards(dataset / "data"), count_run(dataset)
    else:
        files, tally = [dataset], Tally()
        count_examples(tally, dataset)
    name = dataset.resolve().name
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{text(name)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{text(name)}</h1>",
        *facts(tally),
        "<h2>Pairs</h2>",
        *triplets(sample_triplets(files, sample, seed), settings),
        *charts(tally, settings),
        *verdicts(tally),
        *failures(tally),
        *kinds(tally),
        *settings_table(settings),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def text(value: Any) -> str:
    """A text of the dataset as HTML."""
    return escape(str(value), quote=True)


def facts(tally: Tally) -> Iterator[str]:
    """The counts, large."""
    told = {"pairs": tally.examples}
    if tally.triplets:
        told = {"triplets": tally.triplets, "with pairs": tally.with_pairs, "failed": sum(tally.problems.values())}
        told |= {"candidates": sum(tally.verdicts.values()), "kept": tally.verdicts[KEPT]}
    yield '<ul class="facts">'
    for name, count in told.items():
        yield f'<li><b>{count:,}</b><span class="soft">{name}</span></li>'
    yield "</ul>"


def triplets(sample: Sequence[list[dict[str, Any]]], settings: dict[str, Any]) -> Iterator[str]:
    """The triplets of the sample, each with its pairs."""
    if not sample:
        size = settings.get("shard_triplets")
        wait = f" Pictures show when a block of {size} triplets is complete." if isinstance(size, int) else ""
        yield f'<p class="soft">There is no pair here.{wait}</p>'
        return
    yield '<div class="triplets">'
    for rows in sample:
        first = rows[0]
        kind = f'<span class="kind">{text(first["kind"])}</span>' if first.get("kind") else ""
        yield f"<article><h3>{text(first.get('edit_prompt') or '')}{kind}</h3>"
        for column, arrow in (("original_prompt", ""), ("edited_prompt", "→ ")):
            if first.get(column):
                yield f'<p class="soft">{arrow}{text(first[column])}</p>'
        yield '<div class="pairs">'
        for row in rows:
            yield from pair(row)
        yield "</div></article>"
    yield "</div>"


def pair(row: dict[str, Any]) -> Iterator[str]:
    """A pair with its scores."""
    yield '<figure><div class="pictures">'
    for column, name in (("original_image", "before"), ("edited_image", "after"), ("mask", "mask")):
        picture = row.get(column)
        if picture or column != "mask":
            yield thumbnail((picture or {}).get("bytes"), name)
    told = [f"{name} {row[column]:.2f}" for column, name in SCORES.items() if isinstance(row.get(column), float)]
    if row.get("seed") is not None:
        told.append(f"seed {row['seed']}")
    caption = " · ".join(f"<span>{text(each)}</span>" for each in told)
    yield f"</div><figcaption>{caption}</figcaption></figure>"


def thumbnail(content: bytes | None, name: str) -> str:
    """A small copy of a picture, inside the page. Only pixels are taken over, nothing else that a file may hold."""
    try:
        if content is None:
            raise SkipError("missing file", "none")
        image = as_rgb(content, name)
    except SkipError:
        return f"<span>{name}: unreadable</span>"
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=88, subsampling=0)
    data = base64.b64encode(file.getvalue()).decode()
    small = ' class="mask"' if name == "mask" else ""
    return f'<img{small} alt="{name}" title="{name}" loading="lazy" src="data:image/jpeg;base64,{data}">'


def charts(tally: Tally, settings: dict[str, Any]) -> Iterator[str]:
    """How the scores are spread."""
    known = {name: each for name, each in tally.histograms.items() if each.kept.any() or each.dropped.any()}
    if not known:
        return
    yield "<h2>Scores</h2>"
    yield '<p class="legend"><span><i class="k"></i>kept</span><span><i></i>dropped</span>'
    yield '<span><i class="m"></i>threshold</span><span>each as a share of its own total</span></p>'
    yield '<div class="charts">'
    for name, (title, threshold) in CHARTS.items():
        if name in known:
            least = settings.get(threshold) if threshold else None
            limit = float(least) if isinstance(least, int | float) else None
            yield f'<div class="chart"><h3>{title}</h3>{chart(known[name], limit, title)}</div>'
    yield "</div>"


def chart(histogram: Histogram, threshold: float | None, title: str) -> str:
    """A histogram as SVG: the dropped as bars, the kept as an outline over them."""
    low, high = span(histogram, threshold)
    group = -(-(high - low) // BARS)
    high = min(low + -(-(high - low) // group) * group, BINS)

    def grouped(counts: np.ndarray) -> np.ndarray:
        parts = counts[low:high]
        padded = np.pad(parts, (0, -len(parts) % group)).reshape(-1, group).sum(1)
        return padded / max(int(counts.sum()), 1)

    kept, dropped = grouped(histogram.kept), grouped(histogram.dropped)
    bars = len(kept)
    top = max(kept.max(), dropped.max()) or 1
    inner, floor = WIDTH - 2 * LEFT, HEIGHT - BOTTOM

    def x(place: float) -> float:
        return round(LEFT + place / bars * inner, 2)

    def y(share: float) -> float:
        return round(floor - share / top * (floor - TOP), 2)

    def x_of(value: float) -> float:
        return x(((value - histogram.low) / (histogram.high - histogram.low) * BINS - low) / group)

    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">']
    for place, share in enumerate(dropped):
        if share:
            width = round(x(place + 1) - x(place) - 0.8, 2)
            drawn.append(
                f'<rect class="dropped" x="{x(place)}" y="{y(share)}" width="{width}" height="{floor - y(share):.2f}"/>'
            )
    if kept.any():
        steps = " ".join(f"V{y(share)}H{x(place + 1)}" for place, share in enumerate(kept))
        drawn.append(f'<path class="kept" d="M{x(0)} {floor}{steps}V{floor}Z"/>')
    drawn.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{floor}" y2="{floor}"/>')
    edges = [histogram.low + (low + place * group) / BINS * (histogram.high - histogram.low) for place in (0, bars)]
    for tick in ticks(*edges):
        drawn.append(f'<text x="{x_of(tick)}" y="{HEIGHT - 5}" text-anchor="middle">{tick:g}</text>')
    if threshold is not None:
        mark = x_of(threshold)
        shift, anchor = (-4, "end") if mark > WIDTH * 0.75 else (4, "start")
        drawn.append(f'<line class="mark" x1="{mark}" x2="{mark}" y1="4" y2="{floor}"/>')
        drawn.append(f'<text class="marked" x="{mark + shift}" y="12" text-anchor="{anchor}">{threshold:g}</text>')
    return "".join([*drawn, "</svg>"])


def span(histogram: Histogram, threshold: float | None) -> tuple[int, int]:
    """The bins that a chart shows: those that are not empty, and the threshold's."""
    places = np.flatnonzero(histogram.kept + histogram.dropped)
    low, high = int(places.min()), int(places.max()) + 1
    if threshold is not None:
        place = int((threshold - histogram.low) / (histogram.high - histogram.low) * BINS)
        low, high = min(low, place - 2), max(high, place + 3)
    if high - low < 10:
        low, high = low - 5, high + 5
    return max(low, 0), min(high, BINS)


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers from low to high."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        if (high - low) / step <= 6:
            break
    first = int(np.ceil(round(low / step, 6)))
    last = int(np.floor(round(high / step, 6)))
    margin = (high - low) * 0.03  # a number at the very edge would be cut off
    return [round(n * step, 4) for n in range(first, last + 1) if low + margin <= n * step <= high - margin]


def verdicts(tally: Tally) -> Iterator[str]:
    """What became of the candidates."""
    total = sum(tally.verdicts.values())
    if not total:
        return
    yield '<h2>What was dropped, and why</h2><div class="scroll"><table>'
    yield "<tr><th>candidates</th><th></th><th></th><th></th></tr>"
    for name, count in tally.verdicts.most_common():
        share = count / total
        kept = ' class="k"' if name == KEPT else ""
        yield f'<tr><td>{text(VERDICTS.get(name, name))}</td><td class="n">{count:,}</td><td class="n">{share:.1%}</td>'
        yield f'<td class="bar"><i{kept} style="width:{share:.2%}"></i></td></tr>'
    yield "</table></div>"


def failures(tally: Tally) -> Iterator[str]:
    """The triplets that could not be made."""
    if not tally.failed:
        return
    count = sum(tally.problems.values())
    yield f"<h2>Triplets that failed: {count:,}</h2>"
    if count > len(tally.failed):
        yield f'<p class="soft">The first {len(tally.failed)}.</p>'
    yield '<div class="scroll"><table><tr><th>place</th><th>triplet</th><th>problem</th></tr>'
    for place, name, problem in tally.failed:
        yield f'<tr><td class="n">{place}</td><td><code>{text(name)}</code></td><td>{text(problem)}</td></tr>'
    yield "</table></div>"


def kinds(tally: Tally) -> Iterator[str]:
    """The pairs by kind of edit."""
    if set(tally.kinds) <= {""}:
        return
    yield '<h2>Pairs by kind of edit</h2><div class="scroll"><table>'
    for name, count in tally.kinds.most_common(30):
        share = count / tally.examples
        yield f'<tr><td>{text(name or "none")}</td><td class="n">{count:,}</td><td class="n">{share:.1%}</td>'
        yield f'<td class="bar"><i class="k" style="width:{share:.2%}"></i></td></tr>'
    yield "</table></div>"


def settings_table(settings: dict[str, Any]) -> Iterator[str]:
    """What the rows depend on."""
    if not settings:
        return
    yield '<details><summary>Settings</summary><div class="scroll"><table>'
    for name, value in settings.items():
        told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"<tr><td><code>{text(name)}</code></td><td>{text(told)}</td></tr>"
    yield "</table></div></details>"
