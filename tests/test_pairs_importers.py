"""Datasets of others: their layouts, what is wrong with them, and going on after a stop."""

import io
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value, load_dataset
from ip2p.training.pairs.candidates import PairTriplet
from ip2p.training.pairs.features import EXAMPLES, SCORES
from ip2p.training.pairs.import_csv import CsvLayout
from ip2p.training.pairs.import_magicbrush import magicbrush
from ip2p.training.pairs.import_original import OriginalLayout
from ip2p.training.pairs.importers import Layout, import_pairs
from ip2p.training.pairs.pictures import SkipError, checked, mask
from loopback_datasets import hub
from pairs_data import encoded, picture
from PIL import Image as Pil

BRUSH = Features(
    {
        "img_id": Value("string"),
        "turn_index": Value("int32"),
        "source_img": Image(),
        "mask_img": Image(),
        "instruction": Value("string"),
        "target_img": Image(),
    }
)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def masked(seed: int, side: int = 32) -> bytes:
    """A picture whose upper left quarter is transparent."""
    image = Pil.open(io.BytesIO(picture(seed, side, side))).convert("RGBA")
    alpha = np.full((side, side), 255, np.uint8)
    alpha[: side // 2, : side // 2] = 0
    image.putalpha(Pil.fromarray(alpha))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def original(folder: Path, count: int = 5, listing: bool = True) -> OriginalLayout:
    entries = []
    for number in range(count):
        name = f"shard-00/{number:07d}"
        (folder / name).mkdir(parents=True)
        texts = {("caption", "input")[number % 2]: f"a fox {number}", "edit": "make it a cat", "output": "a cat"}
        (folder / name / "prompt.json").write_text(json.dumps(texts))
        told = []
        for seed in (10 + number, 4000000000 + number):
            for place in (0, 1):
                (folder / name / f"{seed}_{place}.jpg").write_bytes(picture(seed + place, kind="JPEG"))
            told.append({"seed": seed, "p2p_threshold": 0.5, "cfg_scale": 8.0, "clip_sim_0": 0.25, "clip_sim_1": 0.26})
            told[-1] |= {"clip_sim_dir": 0.27, "clip_sim_image": 0.9}
        if number == 0:
            (folder / name / "metadata.jsonl").write_text("\n".join(map(json.dumps, told)) + '\n{"seed": 1, "cfg')
        entries.append([name, [str(10 + number), 4000000000 + number]])
    if listing:
        (folder / "seeds.json").write_text(json.dumps(entries))
    return OriginalLayout(folder)


def folder_of_pairs(folder: Path, count: int = 5) -> CsvLayout:
    folder.mkdir(parents=True)
    lines = ["before,after,instruction,original_prompt,edited_prompt,mask"]
    for number in range(count):
        (folder / f"{number} a.png").write_bytes(picture(number))
        (folder / f"{number} b.jpg").write_bytes(picture(100 + number, kind="JPEG"))
        (folder / f"{number} m.png").write_bytes(masked(number))
        captions = "a fox,a cat" if number % 2 else ","
        mask_name = f"{number} m.png" if number == 0 else ""
        lines.append(f'{number} a.png,{number} b.jpg,"make it a cat, please {number}",{captions},{mask_name}')
    (folder / "pairs.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return CsvLayout(folder)


def brush_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "img_id": str(500 + number // 2),
            "turn_index": number % 2 + 1,
            "source_img": {"bytes": picture(number), "path": "a photo.png"},
            "mask_img": {"bytes": masked(number), "path": None},
            "instruction": f"add a bird {number}",
            "target_img": {"bytes": picture(50 + number), "path": None},
        }
        for number in range(count)
    ]


def brush_parquet(folder: Path, count: int = 5) -> Layout:
    (folder / "data").mkdir(parents=True)
    table = Dataset.from_list(brush_rows(count), features=BRUSH).data.table
    pq.write_table(table[:2], folder / "data" / "train-00000-of-00002.parquet")
    pq.write_table(table[2:], folder / "data" / "train-00001-of-00002.parquet", row_group_size=1)
    pq.write_table(table[:1], folder / "data" / "dev-00000-of-00001.parquet")
    return magicbrush(str(folder), "train")


def brush_turns(folder: Path, count: int = 5) -> Layout:
    turns, captions = [], {}
    for number in range(count):
        image = str(600 + number)
        (folder / "images" / image).mkdir(parents=True)
        names = [f"{image}-input.png", f"{image}-mask1.png", f"{image}-output1.png"]
        for name, content in zip(names, (picture(number), masked(number), picture(50 + number)), strict=True):
            (folder / "images" / image / name).write_bytes(content)
        turns.append(dict(zip(("input", "mask", "output"), names, strict=True)) | {"instruction": f"add {number}"})
        captions[image] = {names[0]: "a lawn", names[2]: "a lawn with a bird"}
    (folder / "edit_turns.json").write_text(json.dumps(turns))
    (folder / "global_descriptions.json").write_text(json.dumps(captions))
    return magicbrush(str(folder), "dev")


LAYOUTS: dict[str, Callable[[Path], Layout]] = {
    "original": original,
    "original without seeds.json": lambda folder: original(folder, listing=False),
    "csv": folder_of_pairs,
    "magicbrush Parquet": brush_parquet,
    "magicbrush folder": brush_turns,
}
every_layout = pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)


@every_layout
def test_pairs_come_in(tmp_path: Path, make: Callable[[Path], Layout]) -> None:
    layout = make(tmp_path / "theirs")
    report = import_pairs(layout, tmp_path / "ours", 2)
    made = rows(tmp_path / "ours")
    pairs = 10 if layout.source == "original" else 5
    assert (report.units, report.examples, len(made), report.skipped) == (5, pairs, pairs, {})
    assert len(list((tmp_path / "ours" / "data").iterdir())) == 3
    assert {row["source"] for row in made} == {layout.source}
    assert all(row["edit_prompt"] and row["triplet_id"] for row in made)
    told = json.loads((tmp_path / "ours" / "report.json").read_text())
    assert told["examples"] == pairs
    loaded = load_dataset(str(tmp_path / "ours"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == EXAMPLES and loaded[0]["original_image"].size == (32, 32)


@every_layout
def test_a_stopped_import_goes_on(
    tmp_path: Path, make: Callable[[Path], Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make(tmp_path / "theirs")
    import_pairs(layout, tmp_path / "whole", 2)
    read, count = type(layout).read, 0

    def stopping(self: Any, unit: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return read(self, unit)

    monkeypatch.setattr(type(layout), "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        import_pairs(layout, tmp_path / "ours", 2)
    assert [path.name for path in (tmp_path / "ours" / "data").iterdir()] == ["train-00000.parquet"]
    count = 100
    assert import_pairs(layout, tmp_path / "ours", 2).examples == len(rows(tmp_path / "ours"))
    assert count == 103
    for name in ("train-00000", "train-00001", "train-00002"):
        files = [tmp_path / each / "data" / f"{name}.parquet" for each in ("whole", "ours")]
        assert files[0].read_bytes() == files[1].read_bytes()
    import_pairs(layout, tmp_path / "ours", 2)
    assert count == 103


def test_the_original_layouts_numbers_are_known(tmp_path: Path) -> None:
    import_pairs(original(tmp_path / "theirs"), tmp_path / "ours")
    made = rows(tmp_path / "ours")
    first, other = made[0], made[-1]
    assert [first[name] for name in SCORES] == pytest.approx([0.25, 0.26, 0.9, 0.27])
    assert (first["seed"], first["p"], first["guidance_scale"]) == (10, 0.5, 8.0)
    assert first["triplet_id"] == PairTriplet("a fox 0", "make it a cat", "a cat").id
    assert other["seed"] == 4000000004 and other["p"] is None and other["directional_similarity"] is None
    assert first["original_image"]["bytes"] == picture(10, kind="JPEG")


def test_magicbrush_masks_are_white_where_the_edit_is(tmp_path: Path) -> None:
    import_pairs(brush_parquet(tmp_path / "theirs"), tmp_path / "ours")
    made = rows(tmp_path / "ours")
    region = np.asarray(Pil.open(io.BytesIO(made[0]["mask"]["bytes"])))
    assert region.shape == (32, 32) and (region[:16, :16] == 255).all()
    assert region.sum() == 255 * 256
    assert [row["triplet_id"] for row in made[:3]] == ["500-1", "500-2", "501-1"]


def test_white_marks_the_place_in_opaque_masks() -> None:
    drawn = np.zeros((16, 16), np.uint8)
    drawn[4:8] = 255
    region = np.asarray(Pil.open(io.BytesIO(mask(encoded(drawn), "mask", (32, 32)) or b"")))
    assert region.shape == (32, 32) and (region[8:16] == 255).all() and region.sum() == 255 * 8 * 32
    painted = np.full((16, 16, 3), 200, np.uint8)
    painted[:4] = 255
    region = np.asarray(Pil.open(io.BytesIO(mask(encoded(painted), "mask", (16, 16)) or b"")))
    assert (region[:4] == 255).all() and not region[4:].any()
    assert mask(encoded(np.zeros((16, 16), np.uint8)), "mask", (16, 16)) is None


def test_the_published_magicbrush_folder_has_captions(tmp_path: Path) -> None:
    import_pairs(brush_turns(tmp_path / "theirs"), tmp_path / "ours")
    first = rows(tmp_path / "ours")[0]
    assert (first["original_prompt"], first["edited_prompt"]) == ("a lawn", "a lawn with a bird")
    assert first["mask"] is not None


def test_what_is_wrong_is_skipped_and_counted(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    original(theirs, 6)
    folders = [theirs / "shard-00" / f"{number:07d}" for number in range(6)]
    (folders[0] / "10_1.jpg").unlink()
    (folders[1] / "11_0.jpg").write_bytes(b"no picture")
    (folders[1] / "4000000001_1.jpg").write_bytes(picture(1, kind="JPEG")[:300])
    (folders[2] / "prompt.json").write_text('{"caption": "a", "edit": 5, "output": "b"}')
    (folders[3] / "prompt.json").unlink()
    (folders[4] / "14_1.jpg").write_bytes(picture(1, 64, 32, "JPEG"))
    (folders[5] / "prompt.json").write_text(json.dumps({"input": "a \ud800 b", "edit": " ", "output": "b"}))
    report = import_pairs(OriginalLayout(theirs), tmp_path / "ours")
    assert report.examples == len(rows(tmp_path / "ours")) == 2
    assert report.skipped == {
        **{"missing file": 3, "damaged picture": 2, "damaged text": 2, "unlike sizes": 1, "no instruction": 2},
    }
    assert any("14" in each and "64×32" in each for each in report.problems)


def hostile(name: str) -> str:
    lines = ("before,after,instruction", "fine.png,fine.png,ok", f'"{name}",fine.png,x', f'fine.png,"{name}",x')
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "link.png", "sub/../../secret.png", "C:\\x.png"])
def test_paths_never_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "fine.png").write_bytes(picture(2))
    (theirs / "link.png").symlink_to(tmp_path / "secret.png")
    (theirs / "pairs.csv").write_text(hostile(name))
    report = import_pairs(CsvLayout(theirs), tmp_path / "ours")
    assert (report.examples, report.skipped) == (1, {"outside the folder": 2})


def test_names_in_listings_never_leave_the_folder(tmp_path: Path) -> None:
    original(tmp_path / "secret", 1)
    theirs = tmp_path / "theirs"
    original(theirs, 1)
    away = "../secret/shard-00/0000000"
    (theirs / "linked").symlink_to(tmp_path / "secret" / "shard-00" / "0000000")
    bad_seed = ["shard-00/0000000", ["../../../secret/shard-00/0000000/10"]]
    entries = [[away, [10]], ["linked", [10]], bad_seed, ["shard-00/0000000", [10]]]
    (theirs / "seeds.json").write_text(json.dumps(entries))
    report = import_pairs(OriginalLayout(theirs), tmp_path / "ours")
    assert (report.examples, report.skipped) == (1, {"outside the folder": 3})
    turns = tmp_path / "turns"
    brush_turns(turns, 1)
    told = json.loads((turns / "edit_turns.json").read_text())
    told.append(told[0] | {"output": "../../../secret/shard-00/0000000/10_0.jpg"})
    (turns / "edit_turns.json").write_text(json.dumps(told))
    assert import_pairs(magicbrush(str(turns), "dev"), tmp_path / "two").skipped == {"outside the folder": 1}


def bomb() -> bytes:
    """A small file that says it is 30,000 pixels wide and high."""
    content = bytearray(encoded(np.zeros((8, 8), np.uint8)))
    content[16:24] = (30000).to_bytes(4, "big") * 2

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_image_bombs_are_refused() -> None:
    with pytest.raises(SkipError, match=r"too many pixels|more than"):
        checked(bomb(), "bomb")
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    with pytest.raises(SkipError, match="EPS"):
        checked(program, "program")


def test_pictures_that_readers_show_unlike_become_png() -> None:
    plain = picture(1, 32, 16, "JPEG")
    assert checked(plain, "plain") == (plain, (32, 16))
    file = io.BytesIO()
    turned = Pil.open(io.BytesIO(plain))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(file, "JPEG", exif=exif)
    content, size = checked(file.getvalue(), "turned")
    assert size == (16, 32) and Pil.open(io.BytesIO(content)).format == "PNG"
    content, _ = checked(masked(1), "transparent")
    assert Pil.open(io.BytesIO(content)).mode == "RGB"
    assert np.asarray(Pil.open(io.BytesIO(content)))[0, 0].tolist() == [255, 255, 255]


def test_another_source_is_refused(tmp_path: Path) -> None:
    import_pairs(original(tmp_path / "theirs"), tmp_path / "ours")
    with pytest.raises(ValueError, match="holds another run"):
        import_pairs(folder_of_pairs(tmp_path / "others"), tmp_path / "ours")
    (tmp_path / "strange" / "data").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds data but no settings"):
        import_pairs(CsvLayout(tmp_path / "others"), tmp_path / "strange")


def test_nothing_usable_is_told(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "a.csv").write_text("before,after,instruction\nx.png,y.png,hello\n")
    with pytest.raises(ValueError, match=r"Nothing of .* could be imported \(missing file 1\): see .*report\.json"):
        import_pairs(CsvLayout(theirs), tmp_path / "ours")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"before,after\nx,y\n", "lacks the columns instruction"),
        (b"", "lacks the columns before, after, instruction"),
        (b"before,after,instruction\n\xff\xfe,y,z\n", "is no UTF-8"),
        (b'before,after,instruction\n"' + b"x" * (2 << 20) + b'",y,z\n', "is damaged near line 2"),
    ],
)
def test_csv_files_that_cannot_be_read_get_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        import_pairs(CsvLayout(path), tmp_path / "ours")


def test_listings_that_cannot_be_read_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "seeds.json").write_text('[["a", 5]]')
    with pytest.raises(ValueError, match=r"seeds\.json is damaged"):
        OriginalLayout(tmp_path)
    (tmp_path / "seeds.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"seeds\.json is damaged"):
        OriginalLayout(tmp_path)
    (tmp_path / "seeds.json").unlink()
    with pytest.raises(ValueError, match=r"no folders with a prompt\.json"):
        OriginalLayout(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="lacks the columns source_img, instruction, target_img"):
        magicbrush(str(tmp_path / "x.parquet"), "train")
    with pytest.raises(ValueError, match="There is no file or folder"):
        magicbrush(str(tmp_path / "nowhere"), "train")


def test_splits_are_told_apart(tmp_path: Path) -> None:
    brush_parquet(tmp_path / "theirs")
    report = import_pairs(magicbrush(str(tmp_path / "theirs"), "dev"), tmp_path / "ours")
    assert report.examples == 1
    with pytest.raises(ValueError, match="no files of the split test"):
        magicbrush(str(tmp_path / "theirs"), "test")


def test_magicbrush_streams_from_the_hub(tmp_path: Path) -> None:
    served_folder = tmp_path / "hub" / "osunlp--MagicBrush"
    brush_parquet(served_folder)
    for path in (served_folder / "data").iterdir():
        path.rename(served_folder / path.name)
    program = """
import sys
from pathlib import Path
from ip2p.cli import main
arguments = ["dataset", "import", "osunlp/MagicBrush", "--layout", "magicbrush", "-o", sys.argv[1], "--shard-rows", "2"]
assert main(arguments) == 0
Path(sys.argv[1], "data", "train-00002.parquet").unlink()
assert main(arguments) == 0
"""
    with hub(tmp_path / "hub") as served:
        command = [sys.executable, "-c", program, tmp_path / "ours"]
        done = subprocess.run(command, env={**os.environ, **served.environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["triplet_id"] for row in rows(tmp_path / "ours")] == ["500-1", "500-2", "501-1", "501-2", "502-1"]
