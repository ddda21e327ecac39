"""What a recipe gives, on one page: each stage's time, figures and pictures, and where its own pages are."""

import base64
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from ..training.files import write_whole
from .recipe_overview import clock
from .recipe_settings import Recipe

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #8884; }
td.time { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; height: auto; image-rendering: pixelated; }
pre { overflow-x: auto; padding: 1rem; background: #8882; border-radius: .5rem; }
code { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Result:
    """What a stage gave.

    outcome: a hash of its files
    seconds: that it took, all starts together
    figures: what is told of it
    """

    folder: Path
    outcome: str
    seconds: float
    figures: dict[str, str]


def write_report(folder: Path, recipe: Recipe, results: Mapping[str, Result]) -> Path:
    """Write report.html, which needs nothing else; its path."""
    total = clock(sum(result.seconds for result in results.values()))
    rows = "".join(row(name, result, folder) for name, result in results.items())
    told = yaml.safe_dump({name: public(section) for name, section in recipe.sections.items()}, sort_keys=False)
    page = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>Recipe {escape(recipe.name)}</title><style>{STYLE}</style>",
        f"<h1>Recipe {escape(recipe.name)}</h1>",
        f"<p>{len(results)} stages in {total}, with {recipe.processes} "
        f"process{'es' * (recipe.processes > 1)} where a stage is shared; ip2p {__version__}.</p>",
        f"<table><tr><th>stage<th>figures<th>result<th>time</tr>{rows}</table>",
        *pictures(results),
        f"<details><summary>Settings</summary><pre>{escape(told)}</pre></details>",
    ]
    path = folder / "report.html"
    write_whole(path, "\n".join(page).encode())
    return path


def public(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section as the page tells it: without a service's address, which may hold a key."""
    return {name: value for name, value in section.items() if name != "base_url"}


def row(name: str, result: Result, folder: Path) -> str:
    """A stage's line of the table."""
    figures = "<br>".join(f"{escape(key)}: {escape(value)}" for key, value in result.figures.items())
    own = result.folder / "report.html"
    shown = f"<code>{result.outcome[:16]}</code>"
    if own.is_file():
        shown += f"<br><a href='{escape(Path(os.path.relpath(own, folder)).as_posix())}'>its own report</a>"
    return f"<tr><td>{escape(name)}<td>{figures}<td>{shown}<td class=time>{clock(result.seconds)}</tr>"


def pictures(results: Mapping[str, Result]) -> Iterator[str]:
    """The last sheet of held-out edits of each training."""
    titles = {
        "train": "Held-out edits: before, edited, after",
        "guidance": "The same, with guidance distilled",
        "distil": "The same, in few steps",
    }
    for name, title in titles.items():
        sheets = sorted((results[name].folder / "validation").glob("step-*.png")) if name in results else []
        if sheets:
            content = base64.b64encode(sheets[-1].read_bytes()).decode()
            yield f"<h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{content}'>"
