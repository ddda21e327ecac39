"""Where results go: no file is lost, neither one that was there nor the result."""

import json
from pathlib import Path

import pytest
from cli_runner import Ip2p, Result, files
from ip2p.commands import outputs as module
from ip2p.commands.outputs import Outputs
from PIL import Image
from tiny_models import distance, picture

pytest_plugins = ["cli_fixtures"]


@pytest.mark.parametrize("output", [None, "cat-edited.png"])
def test_a_file_that_appears_during_the_edit_is_kept(
    edit: Ip2p, folder: Path, monkeypatch: pytest.MonkeyPatch, output: str | None
) -> None:
    write = module.write

    def write_slowly(*arguments: object) -> None:
        write(*arguments)
        Path("cat-edited.png").write_text("mine")

    monkeypatch.setattr(module, "write", write_slowly)
    result = edit("cat.jpg", "make it winter", *(["-o", output] if output else []))
    assert result.code == 0
    assert result.out.startswith("cat-edited-2.png")
    assert Path("cat-edited.png").read_text() == "mine"
    assert Image.open("cat-edited-2.png").size == (48, 32)
    assert files(folder) == {"cat.jpg", "dog.png", "cat-edited.png", "cat-edited-2.png"}
    told = "ip2p: cat-edited.png has appeared during the edit: the result is cat-edited-2.png.\n"
    assert result.err == (told if output else "")


def test_no_result_replaces_a_picture_that_the_run_reads(edit: Ip2p, folder: Path) -> None:
    picture(7, 16, 16).save("cat-edited.png")
    Image.new("L", (48, 32), 255).save("mask.png")
    inputs = {name: (folder / name).read_bytes() for name in ("cat-edited.png", "mask.png")}
    assert edit("cat.jpg", "cat-edited.png", "make it winter", "--overwrite").code == 0
    edit("cat.jpg", "make it winter", "--mask", "mask.png", "-o", "mask.png", "--overwrite")
    refused = edit("./cat-edited.png", "make it winter", "-o", folder / "cat-edited.png", "--overwrite")
    assert (refused.code, "this run reads it" in refused.err) == (1, True)
    assert {name: (folder / name).read_bytes() for name in inputs} == inputs
    assert files(folder) == {"cat.jpg", "dog.png", *inputs, "cat-edited-2.png", "cat-edited-edited.png"}


def test_a_folder_is_never_replaced(edit: Ip2p) -> None:
    Path("cat-edited.png").mkdir()
    assert edit("cat.jpg", "make it winter", "--overwrite").out.startswith("cat-edited-2.png")


def test_an_unknown_ending_is_no_folder_unless_it_says_so(edit: Ip2p, folder: Path) -> None:
    before = files(folder)
    for output in ("edited.pgn", "result.txt", "v1.0"):
        result = edit("cat.jpg", "make it winter", "-o", output)
        assert (result.code, len(result.err.splitlines())) == (1, 1)
        assert ".png, .jpg, .jpeg, .webp" in result.err
        assert files(folder) == before
    assert not Path("v1.0").exists()
    for output in ("v1.0/", "v1.0"):  # then it exists
        assert edit("cat.jpg", "make it winter", "-o", output).code == 0
    assert files(folder) - before == {"v1.0/cat-edited.png", "v1.0/cat-edited-2.png"}


def refused_before_the_edit(ip2p: Ip2p, folder: Path, *arguments: object) -> Result:
    """No model is looked for: this is told before."""
    before = files(folder)
    result = ip2p(*arguments, "--model", "no/such")
    assert (result.code, result.out, len(result.err.splitlines())) == (1, "", 1)
    assert "no/such" not in result.err
    assert files(folder) == before
    return result


def test_a_name_too_long_for_the_disk_is_told_before_the_edit(ip2p: Ip2p, folder: Path) -> None:
    picture().save("x" * 245 + ".png")  # itself short enough, but not with -edited
    for command in ("edit", "grid"):
        assert "name too long" in refused_before_the_edit(ip2p, folder, command, "x" * 245 + ".png", "red").err
        named = refused_before_the_edit(ip2p, folder, command, "cat.jpg", "red", "-o", "x" * 252 + ".png")
        assert "name too long" in named.err


def test_the_longest_name_that_the_disk_takes_is_written(edit: Ip2p, folder: Path) -> None:
    assert edit("cat.jpg", "make it winter", "-o", "x" * 251 + ".png").code == 0
    assert files(folder) == {"cat.jpg", "dog.png", "x" * 251 + ".png"}


def test_a_picture_too_long_for_the_format_is_told_before_the_edit(ip2p: Ip2p, folder: Path) -> None:
    picture(1, 16384, 1).save("long.png")
    told = refused_before_the_edit(ip2p, folder, "edit", "long.png", "make it winter", "-o", "edited.webp").err
    assert "16384×1" in told
    assert "16383" in told
    for name, side in (("a.webp", 16383), ("a.jpg", 65500)):
        Outputs(name, 1, False).check_size((side, 1))
        with pytest.raises(ValueError, match=f"{side} on a side"):
            Outputs(name, 1, False).check_size((1, side + 1))
        Outputs(name, 1, False).save(Image.new("RGB", (side, 1)), {}, "a")


def test_a_sheet_too_long_for_the_format_is_told_before_the_edit(ip2p: Ip2p, folder: Path, tiny_model: Path) -> None:
    scales = [str(scale) for scale in range(1, 60)]
    flags = ["--guidance-scale", *scales, "--steps", 1, "--model", tiny_model, "-o", "sheet.webp"]
    result = ip2p("grid", "cat.jpg", "make it winter", *flags)
    assert (result.code, files(folder)) == (1, {"cat.jpg", "dog.png"})
    assert "16383 on a side" in result.err


@pytest.mark.parametrize("name", ["long.jpg", "long.webp"])
def test_an_instruction_too_long_for_exif_is_cut_off_there(edit: Ip2p, name: str) -> None:
    instruction = "겨울로 만들어 줘 " * 7000
    assert edit("cat.jpg", instruction, "--negative-prompt", instruction, "-o", name, "--seed", 3).code == 0
    made_by = json.loads(Image.open(name).getexif()[0x010E])
    assert made_by["instruction"] == instruction[:1000] + "…"
    assert made_by["seed"] == 3


def test_a_name_that_is_no_text_is_recorded(folder: Path) -> None:
    path = Outputs("cat.png", 1, False).save(picture(), {"mask": "\udcff.png"}, "cat")
    assert json.loads(Image.open(path).text["ip2p"]) == {"mask": "\udcff.png"}
    assert distance(Image.open(path), picture()) == 0
