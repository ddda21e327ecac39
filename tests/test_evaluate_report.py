"""The report: what it shows, that it needs nothing else, and that nothing in it comes alive."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from evaluate_data import Painted, clip, metrics, samples, store, tasks
from ip2p.training.evaluate.chart import Curve, Dot, line_chart, ticks
from ip2p.training.evaluate.intervals import Interval
from ip2p.training.evaluate.judge import Judgement, Spent
from ip2p.training.evaluate.methods import NoEdit
from ip2p.training.evaluate.report import Report
from ip2p.training.evaluate.store import Task
from ip2p.training.evaluate.summary import summarize
from ip2p.training.evaluate.sweep import Sweep
from PIL import Image
from playwright.sync_api import sync_playwright
from web_server import CHROMIUM

HOSTILE = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    kept = store(tmp_path_factory.mktemp("run"))
    of = samples(8)
    of[0] = replace(of[0], edit_prompt=HOSTILE)
    work = [
        *tasks(0.2, 0.6, 1.0, method=Painted("ours")),
        *tasks(0.1, 0.5, method=Painted("theirs")),
        Task(NoEdit(), {}, 0),
    ]
    for task in work:
        task.method.dial = "share" if task.setting else ""
    Sweep(kept, metrics(clip=clip()), 4).run(work, of)
    points = summarize(work, of, kept)
    preferred = {"ours over theirs": Interval(0.75, 0.6, 0.9), "ours over none": Interval(*[float("nan")] * 3)}
    judgement = Judgement(preferred, Spent(16, 2, 31_000, 900, 1.5), "--max-requests 16 is reached.")
    about = {"settings": {"seed": 0}}
    return Report("A trial", points, of, kept, about, {"row 3: damaged": 1}, judgement=judgement)


def test_a_picture_wanted_that_cant_be_read_is_left_out_of_the_page(tmp_path: Path) -> None:
    def damaged() -> Image.Image:
        raise ValueError("its picture is damaged")

    whole, bad = samples(2)
    of, work = [replace(whole, wanted=whole.picture), replace(bad, wanted=damaged)], tasks(1.0)
    sweep = Sweep(store(tmp_path), metrics(), 4)
    sweep.run(work, of)
    kept = store(tmp_path)
    page = Page(Report("A trial", summarize(work, of, kept), of, kept, {}, dict(sweep.problems)).page())
    assert "its picture is damaged" in " ".join(page.words)
    assert {len(images) for images in page.figures()} == {2, 3}


class Page(HTMLParser):
    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def figures(self) -> list[list[dict[str, Any]]]:
        """The pictures of each figure."""
        found: list[list[dict[str, Any]]] = []
        for name, attrs in self.tags:
            if name == "figure":
                found.append([])
            elif name == "img":
                found[-1].append(attrs)
        return found

    def of(self, tag: str) -> list[dict[str, Any]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_page_shows_curves_tables_and_edits(report: Report) -> None:
    page = Page(report.page())
    words = " ".join(" ".join(page.words).split())
    for told in (
        "Curves",
        "Scores",
        "Edits: ours",
        "Edits: theirs",
        "Preferred by the judge",
        "75.0%",
        "no verdict",
        "16 answers, 2 of them without a verdict; 31,000 prompt and 900 completion tokens, 1.50 at the prices given",
        "--max-requests 16 is reached.",
        "damaged",
        "Which curve is above which",
        "no edit",
    ):
        assert told in words
    assert len(page.of("svg")) == 2 and len(page.of("circle")) == 10
    assert len(page.of("polygon")) == 4  # a band about each curve
    assert len(page.of("figure")) == 2 * 9 and len(page.of("img")) == 2 * 18


def test_it_needs_nothing_else_and_nothing_in_it_comes_alive(report: Report) -> None:
    content = report.page()
    page = Page(content)
    assert HOSTILE not in content and not page.of("script")
    assert all(img["src"].startswith("data:image/") for img in page.of("img"))
    assert not re.search(r"https?://", content)


def test_the_best_of_each_score_is_marked_but_no_edit_never_is(report: Report) -> None:
    assert report.best("right").setting == {"share": 1.0}  # type: ignore[union-attr]
    assert report.best("l1").setting == {"share": 0.1}  # type: ignore[union-attr]
    assert report.best("image_similarity").method != "no edit"  # type: ignore[union-attr]


def test_the_files_say_the_same(report: Report, tmp_path: Path) -> None:
    paths = report.write(tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.json", "report.csv"]
    told = json.loads(paths[1].read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert told["judgement"]["preferred"]["ours over none"]["mean"] is None
    assert told["samples"] == 8 and told["about"]["settings"]["seed"] == 0
    rows = list(csv.DictReader(io.StringIO(paths[2].read_text())))
    assert len(rows) == len(told["points"]) == 6
    for row, point in zip(rows, told["points"], strict=True):
        assert row["method"] == point["method"]
        assert float(row["right"]) == pytest.approx(point["scores"]["right"]["mean"])
        assert float(row["right_low"]) <= float(row["right"]) <= float(row["right_high"])
    assert [(each["first"], each["second"], each["x"]) for each in told["comparisons"]] == [
        ("ours", "theirs", "directional_similarity"), ("ours", "theirs", "right")
    ]  # fmt: skip
    assert told["judgement"]["spent"]["cost"] == 1.5
    assert told["points"][0]["runs"]["l1"] == pytest.approx([told["points"][0]["scores"]["l1"]["mean"]])


def test_the_number_of_steps_has_a_chart_where_it_is_varied(tmp_path: Path) -> None:
    kept, of, painted = store(tmp_path), samples(4), Painted("ours")
    work = [Task(painted, {"share": share, "steps": steps}, 0) for share in (0.5, 1.0) for steps in (5, 10, 20)]
    Sweep(kept, metrics(), 4).run(work, of)
    report = Report("A trial", summarize(work, of, kept), of, kept, {}, {})
    page = Page("".join(report.over_steps()))
    assert page.words[0] == "Steps" and len(page.of("svg")) == 1 and len(page.of("circle")) == 3
    assert "".join(report.heat_maps()) == ""


def test_where_other_dials_were_varied_a_curve_is_of_the_best_and_says_so(tmp_path: Path) -> None:
    kept, of, painted = store(tmp_path), samples(4), Painted("ours")
    work = [Task(painted, {"share": share, "steps": steps}, 0) for steps in (5, 20, 10) for share in (0.5, 1.0)]
    for task in work:
        right = task.setting["share"] * (1 if task.setting["steps"] == 20 else 0.5)
        for sample in of:
            kept.add(task.key, sample.id, {"right": right, "kept": 1 - right})
    points = summarize(work, of, kept)
    report = Report("A trial", points, of, kept, {}, {})
    assert [point.setting["steps"] for point in report.on_curve("ours", "right", "kept")] == [20, 20]
    assert "ours, steps 20" in Page("".join(report.curves())).words
    assert json.loads(report.json())["points"][0]["made_by"] == [{"painted": "ours"}]


def test_trainings_and_seeds_are_told_apart(tmp_path: Path) -> None:
    kept, of = store(tmp_path), samples(4)
    work = [Task(Painted("ours"), {"share": 1.0}, seed) for seed in (0, 1, 2)]
    for number, task in enumerate(work):
        for sample in of:
            kept.add(task.key, sample.id, {"right": number / 2})
    report = Report("A trial", summarize(work, of, kept), of, kept, {}, {})
    words = Page("".join(report.between_runs())).words
    assert "3" in words and "0.5000" in words and "0.0000 – 1.0000" in words
    assert "and of up to 3 trainings and seeds" in report.page()
    assert json.loads(report.json())["points"][0]["runs"]["right"] == [0.0, 0.5, 1.0]


def test_without_captions_and_oracle_the_sheets_go_by_what_was_wanted(tmp_path: Path) -> None:
    kept = store(tmp_path)
    of = [replace(each, edit=None, original_prompt="", wanted=each.picture) for each in samples(8)]
    work = tasks(0.0, method=Painted("ours"))
    Sweep(kept, metrics(), 4).run(work, of)
    page = Page("".join(Report("A trial", summarize(work, of, kept), of, kept, {}, {}).sheets()))
    assert len(page.of("figure")) == 9 and len(page.of("img")) == 27
    assert "SSIM, to the wanted picture" in " ".join(page.words)


def test_charts_hold_their_dots_and_round_numbers() -> None:
    dots = [Dot(x, y, (x - 1, x + 1), (y, y), "a", "n") for x, y in ((0, 3), (10, 4))]
    drawn = Page(line_chart([Curve("c", dots)], "x", "y", "t"))
    for circle in drawn.of("circle"):
        assert 70 < float(circle["cx"]) < 546 and 14 < float(circle["cy"]) < 334
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(0.613 <= tick <= 0.641 for tick in ticks(0.613, 0.641)) and len(ticks(0.613, 0.641)) >= 3


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")
def test_in_a_browser_it_is_whole_and_legible_light_and_dark_wide_and_narrow(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        shades: dict[tuple[str, int], list[float]] = {}
        told: list[str] = []
        for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 360)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
            page.on("console", lambda message: told.append(message.text))
            page.on("request", lambda request: told.append(request.url) if request.url.startswith("http") else None)
            page.goto(f"file://{tmp_path / 'report.html'}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.evaluate("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")
            page.wait_for_function("[...document.images].every(each => each.naturalWidth > 0)")
            shades[scheme, width] = [lightness(page, name) for name in ("color", "backgroundColor")]
            assert abs(shades[scheme, width][0] - shades[scheme, width][1]) > 140
        browser.close()
    assert not told
    assert shades["light", 1280][1] > 200 > 60 > shades["dark", 1280][1]


def lightness(page: Any, name: str) -> float:
    """Of a colour of the page's body, from 0 to 255."""
    told = page.evaluate(f"getComputedStyle(document.body).{name}")
    return sum(map(float, re.findall(r"[\d.]+", told)[:3])) / 3
