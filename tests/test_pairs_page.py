"""The page of a dataset: all of it inside, nothing of it trusted, and in step with the numbers."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ip2p.training.pairs.candidates import PairTriplet
from ip2p.training.pairs.features import EXAMPLES_SCHEMA, KEPT
from ip2p.training.pairs.page import page
from ip2p.training.pairs.sample import sample_triplets
from ip2p.training.pairs.shards import shards
from ip2p.training.pairs.store import Store
from ip2p.training.pairs.tally import count_run
from pairs_data import SETTINGS, THRESHOLDS, edits, failed, make_run, part, picture, triplet
from PIL import Image

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \" ' &amp;"


class Parsed(HTMLParser):
    """Tags, attributes and texts; every tag is closed."""

    VOID = ("meta", "img", "br", "rect", "line", "path")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def pictures(self) -> list[Image.Image]:
        found = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]
        return [Image.open(io.BytesIO(base64.b64decode(src.removeprefix("data:image/jpeg;base64,")))) for src in found]


def run_with(folder: Path, changed: PairTriplet, problem: str = "no") -> None:
    """A run of two triplets, the first with these texts, the other failed."""
    drawn = edits(2)
    store = Store(folder, [changed, triplet(drawn[1])], SETTINGS | THRESHOLDS | {"model": changed.edit_prompt})
    store.add(0, part(0, drawn[0], kept=2))
    store.add(1, failed(1, drawn[1], problem))
    store.finish()


def test_a_run_is_shown_whole(tmp_path: Path) -> None:
    make_run(tmp_path, 12, **THRESHOLDS)
    shown = Parsed(page(tmp_path, sample=20))
    made = [row for path in shards(tmp_path / "data") for row in pq.read_table(path).to_pylist()]
    pictures = sum(3 if row["mask"] else 2 for row in made)
    assert len(shown.pictures) == pictures and shown.pictures[0].size == (64, 64)
    text = " ".join(shown.texts)
    assert all(row["edit_prompt"] in text and row["original_prompt"] in text for row in made)
    assert all(f"direction {row['directional_similarity']:.2f}" in text for row in made)
    assert sum(tag == "svg" for tag, _ in shown.tags) == 5
    assert sum(attrs.get("class") == "mark" for _, attrs in shown.tags) == 4
    assert "the pictures don't change as the captions do" in text


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    make_run(tmp_path, 6, **THRESHOLDS)
    content = page(tmp_path)
    shown = Parsed(content)
    assert all(
        (attrs.get("src") or "data:").startswith("data:image/jpeg;base64,") for tag, attrs in shown.tags if tag == "img"
    )
    assert not {tag for tag, _ in shown.tags} & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?://|url\(|@import", content)
    assert "prefers-color-scheme: dark" in content and "width=device-width" in content


def test_texts_of_the_dataset_stay_texts(tmp_path: Path) -> None:
    folder = tmp_path / "a <b> & c"
    run_with(folder, PairTriplet(HOSTILE, HOSTILE, HOSTILE, HOSTILE), HOSTILE)
    shown = Parsed(page(folder))
    tags = {tag for tag, _ in shown.tags}
    assert "script" not in tags and "b" in tags
    assert not any(name.startswith("on") for _, attrs in shown.tags for name in attrs)
    assert sum(HOSTILE in text for text in shown.texts) >= 6
    assert any(text == "a <b> & c" for text in shown.texts)


def test_pictures_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    row = {"edit_prompt": "x", "original_image": {"bytes": b"no", "path": "/etc/passwd"}}
    row |= {"edited_image": {"bytes": picture(1, 640, 320), "path": None}}
    pq.write_table(pa.Table.from_pylist([row], schema=EXAMPLES_SCHEMA), tmp_path / "x.parquet")
    shown = Parsed(page(tmp_path / "x.parquet"))
    assert "before: unreadable" in shown.texts
    assert [picture.size for picture in shown.pictures] == [(256, 128)]


def test_datasets_of_others_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    image = {"bytes": picture(1), "path": None}
    rows = [{"original_image": image, "edit_prompt": f"edit {n}", "edited_image": image} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    shown = Parsed(page(tmp_path / "x.parquet", sample=3))
    assert len(shown.pictures) == 6 and not any(tag == "svg" for tag, _ in shown.tags)


def test_a_run_at_work_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    drawn = edits(10)
    with Store(tmp_path, [triplet(edit) for edit in drawn], SETTINGS, 4) as store:
        for place in (0, 5):
            store.add(place, part(place, drawn[place]))
        assert "when a block of 4 triplets is complete" in page(tmp_path)
        for place in (1, 2, 3):
            store.add(place, part(place, drawn[place]))
        assert "<article>" in page(tmp_path)
        assert count_run(tmp_path).triplets == 5


def test_counts_are_those_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, 12)
    whole = count_run(tmp_path)
    monkeypatch.setattr("ip2p.training.pairs.tally.ROWS", 5)
    by_few = count_run(tmp_path)
    assert by_few.report() == whole.report()
    parts = [part(place, edit) for place, edit in enumerate(edits(12))]
    kept = sum(each["verdict"].to_pylist().count(KEPT) for each in parts)
    assert whole.verdicts[KEPT] == whole.examples == kept
    assert whole.with_pairs == sum(KEPT in each["verdict"].to_pylist() for each in parts)
    for name, histogram in whole.histograms.items():
        assert histogram.kept.sum() == kept and (histogram.kept + histogram.dropped).sum() == 72
        assert (histogram.kept == by_few.histograms[name].kept).all()


def test_the_sample_is_drawn_by_its_seed(tmp_path: Path) -> None:
    make_run(tmp_path, 30)
    files = shards(tmp_path / "data")

    def drawn(count: int, seed: int) -> list[str]:
        return [rows[0]["triplet_id"] for rows in sample_triplets(files, count, seed)]

    assert drawn(5, 0) == drawn(5, 0) and len(drawn(5, 0)) == 5
    assert set(drawn(5, 0)) < set(drawn(8, 0))
    assert drawn(5, 0) != drawn(5, 1)
    assert drawn(0, 0) == []
    for rows in sample_triplets(files, 30, 0):
        assert len({row["triplet_id"] for row in rows}) == 1
    assert sum(len(rows) for rows in sample_triplets(files, 30, 0)) == count_run(tmp_path).examples
