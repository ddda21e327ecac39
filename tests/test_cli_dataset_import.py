"""`ip2p dataset import`: sentences and exit status."""

import json
from pathlib import Path

import pyarrow.parquet as pq
from cli_runner import Ip2p
from pairs_data import picture

pytest_plugins = ["cli_fixtures"]


def write_pairs(folder: Path) -> None:
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(picture(ord(name)))
    lines = ["before,after,instruction", "a.png,b.png,make it b", "a.png,c.png,make it c"]
    (folder / "pairs.csv").write_text("\n".join(lines))


def test_a_folder_with_a_csv_file_comes_in(ip2p: Ip2p, folder: Path) -> None:
    write_pairs(folder / "mine")
    result = ip2p("dataset", "import", "mine", "--layout", "csv", "-o", "made")
    assert result.code == 0, result.err
    assert "made  1 pairs; skipped: missing file 1, see made/report.json." in result.out
    assert pq.read_table("made/data/train-00000.parquet")["edit_prompt"].to_pylist() == ["make it b"]
    assert json.loads(Path("made/report.json").read_text())["problems"] == ["mine/c.png is missing"]
    again = ip2p("dataset", "import", "mine", "--layout", "csv", "-o", "made")
    assert again.code == 0 and again.out == result.out


def test_it_has_a_name_of_its_own(ip2p: Ip2p, folder: Path) -> None:
    write_pairs(folder / "mine")
    assert ip2p("dataset", "import", "mine/pairs.csv", "--layout", "csv").code == 0
    assert Path("pairs-csv/README.md").exists()


def test_bad_settings_get_a_sentence(ip2p: Ip2p, folder: Path) -> None:
    write_pairs(folder / "mine")
    for arguments, code, sentence in (
        (("mine",), 1, "--layout original, magicbrush or csv"),
        (("mine", "--layout", "zip"), 2, "--layout"),
        (("nowhere", "--layout", "csv"), 1, "There is no file or folder nowhere"),
        (("nowhere", "--layout", "original"), 1, "There is no folder nowhere"),
        (("nowhere", "--layout", "magicbrush"), 1, "There is no file or folder nowhere"),
        (("mine", "--layout", "original"), 1, "no folders with a prompt.json"),
        (("mine", "--layout", "magicbrush"), 1, "no Parquet files and no edit_turns.json"),
        (("mine", "--layout", "csv", "--shard-rows", "0"), 1, "--shard-rows is at least 1"),
        (("cat.jpg", "--layout", "csv"), 1, "cat.jpg"),
        (("cat.jpg", "--layout", "magicbrush"), 1, "cat.jpg is damaged or no Parquet file"),
    ):
        result = ip2p("dataset", "import", *arguments)
        assert result.code == code, arguments
        assert sentence in result.err and "Traceback" not in result.err
    assert not list(folder.glob("pairs-*"))


def test_the_hub_out_of_reach_is_told(ip2p: Ip2p) -> None:
    result = ip2p("dataset", "import", "osunlp/MagicBrush", "--layout", "magicbrush")
    assert result.code == 1 and "osunlp/MagicBrush" in result.err and "Traceback" not in result.err
