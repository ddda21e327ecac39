"""Files that are whole, full disks, and which files are a split's."""

import os
from pathlib import Path

import pytest
from ip2p.training.files import add_line, of_split, room_for, write_whole

NAMES = ["train-00000-of-00002-0123456789abcdef.parquet", "train-00001.parquet", "validation-0.parquet", "mine.parquet"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "new" / "a.txt", b"one")
    monkeypatch.setattr(os, "fsync", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_whole(tmp_path / "new" / "a.txt", b"two")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"one"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
def test_a_full_disk_is_a_sentence() -> None:
    with pytest.raises(OSError, match=r"^There is no room for /dev/full: free some, then run the same command again"):
        add_line(Path("/dev/full"), "a line")
    with pytest.raises(OSError, match="Is a directory"), room_for(Path("/dev")):
        Path("/dev").write_bytes(b"")


def test_the_files_of_a_split() -> None:
    files = [Path(name) for name in NAMES]
    assert of_split(files, "train", "pairs/") == files[:2] and of_split(files, "validation", "pairs/") == files[2:3]
    with pytest.raises(ValueError, match=r"pairs/ has no files of --split test, only of train and validation\."):
        of_split(files, "test", "pairs/")
    assert of_split(files[:2], "test", "pairs/") == files[:2] and of_split(files[3:], "test", "pairs/") == files[3:]


def test_a_line_that_was_left_unfinished_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for begun, then in (("", "a\n"), ("a\n", "a\na\n"), ("a\n{tor", "a\na\n"), ("{tor", "a\n")):
        path.write_text(begun)
        add_line(path, "a")
        assert path.read_text() == then
