"""Captions from every kind of source: which are taken, which are turned away, and that a seed gives the same ones."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Image
from ip2p.training.instructions.caption_rules import RULES
from ip2p.training.instructions.captions import CaptionReport, CaptionSettings, sample_captions
from ip2p.training.instructions.seeds import load_seeds
from loopback_datasets import hub
from PIL import Image as Picture

CAPTIONS = [seed.original_prompt for seed in load_seeds()[0][:300]]


def sample(source: object, seed: int = 0, report: CaptionReport | None = None, **settings: object) -> list[str]:
    found = sample_captions(str(source), CaptionSettings(**settings), seed, report)
    return [caption.text for caption in found]


def cleaned(folder: Path, *captions: str, **settings: object) -> tuple[list[str], CaptionReport]:
    file = folder / "captions.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("A plain red barn", *captions)))
    report = CaptionReport()
    return [text for text in sample(file, report=report, **settings) if text != "A plain red barn"], report


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl", ".json", ".txt"])
def test_every_kind_of_file_gives_the_same_sample(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "reference.txt").write_text("\n".join(CAPTIONS), encoding="utf-8")
    file = tmp_path / f"captions[1]{suffix}"
    rows = Dataset.from_dict({"n": list(range(300)), "caption": CAPTIONS})
    if suffix == ".parquet":
        rows.to_parquet(file)
    elif suffix in (".csv", ".tsv"):
        rows.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
    elif suffix == ".txt":
        file.write_text("\n".join(CAPTIONS) + "\n\n", encoding="utf-8")
    else:
        rows.to_json(file)
    expected = sample(tmp_path / "reference.txt", num_captions=20)
    assert len(set(expected)) == 20
    assert sample(file, num_captions=20) == expected


def test_the_sample_is_the_seeds_whatever_the_order_of_rows_and_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shuffled = random.Random(name).sample(CAPTIONS, 300)
        (tmp_path / name / "deeper").mkdir(parents=True)
        for n in range(3):
            rows = pa.table({"caption": shuffled[n * 100 : n * 100 + 100]})
            pq.write_table(rows, tmp_path / name / "deeper" / f"part-{n}.parquet")
        (tmp_path / name / "LICENSE.txt").write_text("All of this is yours to use as you like\n")
    first = sample(tmp_path / "one", num_captions=50)
    assert sample(tmp_path / "two", num_captions=50) == first
    assert sample(tmp_path / "one", num_captions=10) == first[:10]
    other = sample(tmp_path / "one", seed=1, num_captions=50)
    assert set(other) != set(first)
    assert set(first) <= set(CAPTIONS)
    everything = sample(tmp_path / "one", num_captions=1000)
    assert 290 < len(everything) <= 300
    assert everything[:50] == first


def test_captions_that_differ_in_case_and_punctuation_count_once(tmp_path: Path) -> None:
    spellings = ["a red barn in the snow", "A Red Barn in the Snow.", "A red barn, in the snow!"]
    kept, report = cleaned(tmp_path, *spellings, "a red barn in the rain")
    assert len(kept) == 2
    assert (report.read, report.clean, report.repeated, report.sampled) == (5, 5, 2, 3)
    assert cleaned(tmp_path, *reversed(spellings), "a red barn in the rain")[0] == kept


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"prompt": CAPTIONS[:5], "image": [Picture.new("RGB", (8, 8))] * 5})
    rows = rows.cast_column("image", Image())
    rows.save_to_disk(tmp_path / "one")
    DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "splits")
    assert sorted(sample(tmp_path / "one")) == sorted(CAPTIONS[:5])
    assert sorted(sample(tmp_path / "splits")) == sorted(CAPTIONS[:5])


def test_the_column_is_found_or_asked_for(tmp_path: Path) -> None:
    def csv(header: str) -> Path:
        (tmp_path / "captions.csv").write_text(f"{header}\nA red barn in snow,A blue barn in rain\n")
        return tmp_path / "captions.csv"

    assert sample(csv("TEXT,url")) == ["A red barn in snow"]
    assert sample(csv("caption,text"), column="text") == ["A blue barn in rain"]
    with pytest.raises(ValueError, match=r"Say with --column which .* has the columns caption, text"):
        sample(csv("caption,text"))
    with pytest.raises(ValueError, match=r"Say with --column which .* has the columns title, url"):
        sample(csv("title,url"))
    with pytest.raises(ValueError, match=r"There is no column title: .* has the columns caption, text"):
        sample(csv("caption,text"), column="title")
    (tmp_path / "one.csv").write_text("title\nA red barn in snow\n")
    assert sample(tmp_path / "one.csv") == ["A red barn in snow"]


@pytest.mark.parametrize("column", ["AESTHETIC_SCORE", "aesthetic", "aesthetic_score"])
def test_only_beautiful_pictures_captions_where_that_is_asked_for(tmp_path: Path, column: str) -> None:
    file = tmp_path / "laion.parquet"
    scores = [None if n == 0 else n / 30 for n in range(300)]
    pq.write_table(pa.table({"TEXT": CAPTIONS, column: scores, "URL": ["https://x.org"] * 300}), file)
    report = CaptionReport()
    assert set(sample(file, report=report, min_aesthetic=6.5)) <= set(CAPTIONS[195:])
    assert report.dropped["aesthetic"] == 195
    assert len(sample(file)) > 290
    file.unlink()
    pq.write_table(pa.table({"TEXT": CAPTIONS}), file)
    with pytest.raises(ValueError, match="has no column of aesthetic scores, only TEXT"):
        sample(file, min_aesthetic=6.5)


MENDED = [
    ("characters", "A caf\u00c3\u00a9 in Paris\u0000 at\u200b night", "A café in Paris at night"),
    ("characters", "A red\tbarn\n in the   snow", "A red barn in the snow"),
    ("markup", "Fish &amp;amp; chips on a <b>blue</b> plate<br/>", "Fish & chips on a blue plate"),
    ("boilerplate", "Lighthouse in a winter storm | Shutterstock", "Lighthouse in a winter storm"),
    ("boilerplate", "Royalty Free Stock Photo - Lighthouse in a storm - HD Wallpaper", "Lighthouse in a storm"),
    ("boilerplate", "Lighthouse in a winter storm » The Lamp Shop", "Lighthouse in a winter storm"),
    ("boilerplate", "Lighthouse in a winter storm. Photo by Jane Roe", "Lighthouse in a winter storm."),
]


@pytest.mark.parametrize(("rule", "caption", "mended"), MENDED)
def test_a_caption_is_mended_where_that_can_be(tmp_path: Path, rule: str, caption: str, mended: str) -> None:
    kept, report = cleaned(tmp_path, caption)
    assert kept == [mended]
    assert report.mended == {rule: 1}
    assert not report.dropped
    assert cleaned(tmp_path, caption, disable_caption_rules=[rule])[1].mended != {rule: 1}


DROPPED = [
    ("characters", "A \ufffdcottage by the sea"),
    ("markup", "body {color: red} of the page"),
    ("contact", "Paintings by Jane, write to jane@roe.org"),
    ("contact", "A cottage by the sea @janeroe"),
    ("contact", "Call now for roofing, 555 010 1234"),
    ("url", "A cottage by the sea https://roe.org/1"),
    ("url", "A cottage by the sea, www.roe"),
    ("url", "More cottages at seaside.com"),
    ("file_name", "IMG_1234 a cottage"),
    ("file_name", "DSC00042 at the sea"),
    ("file_name", "cottage by the sea.jpg"),
    ("file_name", "cottage_by_the_sea 02 large"),
    ("boilerplate", "Blue ceramic vase, only $19.99"),
    ("boilerplate", "Cottage by the sea free download"),
    ("boilerplate", "Cottage by the sea © Jane Roe"),
    ("boilerplate", "Old cottage for sale in Wales"),
    ("symbols", "17:30 / 04.12 // no. 7"),
    ("symbols", "★★★★★ wow !!!!!!!!!!! ---------"),
    ("moderation", "Nude woman on a sofa, oil on canvas"),
    ("language", "Schöner Sonnenuntergang über dem Meer"),
    ("language", "Une vieille maison au bord de la mer"),
    ("language", "Портрет девушки в красном платье"),
    ("language", "아름다운 산의 풍경 사진"),
    ("length", "Cottage"),
    ("length", "very " * 50 + "long"),
    ("length", "x" * 100_000),
]


@pytest.mark.parametrize(("rule", "caption"), DROPPED)
def test_a_bad_caption_is_counted_under_its_rule(tmp_path: Path, rule: str, caption: str) -> None:
    kept, report = cleaned(tmp_path, caption)
    assert kept == []
    assert report.dropped == {rule: 1}
    assert report.examples == {rule: [caption[:1000]]}
    if rule in RULES:
        assert rule not in cleaned(tmp_path, caption, disable_caption_rules=[rule])[1].dropped


def test_bytes_that_are_no_utf8_cost_only_their_caption(tmp_path: Path) -> None:
    for name in ("captions.txt", "captions.csv"):
        (tmp_path / name).write_bytes(b"text\nA caf\xe9 in the rain\nA tower in the rain\n")
        report = CaptionReport()
        assert sample(tmp_path / name, report=report) == ["A tower in the rain"]
        assert report.dropped["characters"] == 1


def test_of_our_own_captions_under_one_in_a_hundred_is_lost(tmp_path: Path) -> None:
    training, held_out = load_seeds()
    _, report = cleaned(tmp_path, *(seed.original_prompt for seed in training + held_out))
    assert report.clean >= 694
    assert set(report.dropped) <= {"language"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("captions.parquet", b"PAR1 and no more", "captions.parquet can't be read: "),
        ("captions.csv", b"text,n\nA red barn,1\nA barn,2,3,4\n", "captions.csv can't be read: .*line 3"),
        ("captions.jsonl", b'{"text": "A red barn"}\n{"text":\n', "captions.jsonl can't be read: "),
        ("captions.txt", b"", "captions.txt is empty"),
        ("captions.docx", b"text", "captions.docx is no file of captions"),
        ("captions.csv", b"text\nThe file IMG_1234.jpg\n", r"has no captions left after cleaning \(file_name 1\)"),
        ("captions.csv", b"text,n\n1,1\n2,2\n", "The column text of .* holds no texts, but 1"),
    ],
)
def test_a_bad_file_is_told_in_a_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        sample(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    for missing in (tmp_path / "nothing.parquet", tmp_path / "nothing", "captions.csv", "./captions"):
        with pytest.raises(ValueError, match="There is no file or folder"):
            sample(missing)
    with pytest.raises(ValueError, match="has no file of captions"):
        sample(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_captions": 0}, "--num-captions"),
        ({"min_aesthetic": float("nan")}, "--min-aesthetic"),
        ({"min_caption_words": 9, "max_caption_words": 3}, "--min-caption-words"),
        ({"disable_caption_rules": ["zoom"]}, "There is no caption rule zoom: it is one of characters"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CaptionSettings(**settings)


ON_THE_HUB = """
import json, sys
from ip2p.training.instructions.captions import CaptionReport, CaptionSettings, sample_captions
report = CaptionReport()
for source in sys.argv[1:]:
    try:
        captions = sample_captions(source, CaptionSettings(num_captions=5), 0, report)
        print(json.dumps([[caption.text for caption in captions], report.dropped]))
    except ValueError as error:
        print(json.dumps(str(error)))
"""


def on_the_hub(environment: dict[str, str], *sources: str) -> list[object]:
    command = [sys.executable, "-c", ON_THE_HUB, *sources]
    process = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    assert process.stderr == ""
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_datasets_of_the_hub_are_streamed_without_their_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    pictures = [Picture.fromarray(noise.integers(0, 255, (128, 128, 3), dtype=np.uint8)) for _ in range(40)]
    scores = [6 + n / 40 for n in range(40)]
    rows = Dataset.from_dict({"image": pictures, "TEXT": CAPTIONS[:40], "AESTHETIC_SCORE": scores})
    (tmp_path / "laion--art").mkdir()
    rows.cast_column("image", Image()).to_parquet(tmp_path / "laion--art" / "train.parquet")
    (tmp_path / "a--csv").mkdir()
    (tmp_path / "a--csv" / "test.csv").write_text("caption,n\nA red bus in the rain,1\n")
    with hub(tmp_path) as served:
        [art, csv, none] = on_the_hub(served.environment, "laion/art", "a/csv", "a/none")
        assert served.sent < (tmp_path / "laion--art" / "train.parquet").stat().st_size / 4
    assert isinstance(art, list)
    assert len(art[0]) == 5
    assert set(art[0]) <= set(CAPTIONS[20:40])  # 6.5 and more: LAION's
    assert art[1]["aesthetic"] == 20
    assert isinstance(csv, list)
    assert csv[0] == ["A red bus in the rain"]
    assert none == "There is no dataset a/none on the Hub, or your account may not read it."


def test_offline_the_hub_is_told_to_be_out_of_reach(tmp_path: Path) -> None:
    [told] = on_the_hub({"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}, "laion/art")
    assert told == "The Hub can't be reached for the dataset laion/art: HF_HUB_OFFLINE is set."
