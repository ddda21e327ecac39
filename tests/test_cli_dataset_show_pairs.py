"""`ip2p dataset show` of pairs, on the terminal and as a page."""

from pathlib import Path

from cli_runner import Ip2p
from pairs_data import THRESHOLDS, make_run

pytest_plugins = ["cli_fixtures"]


def test_a_sample_and_what_became_of_candidates_are_printed(ip2p: Ip2p, folder: Path) -> None:
    make_run(folder / "made", 12)
    result = ip2p("dataset", "show", "made", "--sample", 3)
    assert result.code == 0, result.err
    assert result.out.count("→") == 3
    assert "12 triplets" in result.out and "kept" in result.out and "kinds: " in result.out


def test_the_page_is_written(ip2p: Ip2p, folder: Path) -> None:
    make_run(folder / "made", 6, **THRESHOLDS)
    result = ip2p("dataset", "show", "made", "--html", "pages/made.html")
    assert (result.code, result.out) == (0, "pages/made.html\n")
    content = Path("pages/made.html").read_text(encoding="utf-8")
    assert content.startswith("<!doctype html>") and "data:image/jpeg;base64," in content
    one = ip2p("dataset", "show", "made/data/train-00000.parquet", "--html", "one.html")
    assert one.code == 0 and "<article>" in Path("one.html").read_text(encoding="utf-8")


def test_what_is_no_dataset_of_pairs_gets_a_sentence(ip2p: Ip2p, folder: Path) -> None:
    ip2p("dataset", "instructions", "--backend", "shapes", "--num-captions", 20, "-o", "shapes")
    result = ip2p("dataset", "show", "shapes", "--html", "page.html")
    assert result.code == 1 and "--html is for datasets of pairs" in result.err
    assert ip2p("dataset", "show", "nowhere", "--html", "page.html").code == 1
    assert not Path("page.html").exists()
    make_run(folder / "made", 2)
    (folder / "made" / "data" / "train-00000.parquet").write_bytes(b"PAR1")
    result = ip2p("dataset", "show", "made")
    assert result.code == 1 and "is damaged or no Parquet file" in result.err
    result = ip2p("dataset", "show", "made", "--html", ".")
    assert result.code == 1 and "name the page itself" in result.err
