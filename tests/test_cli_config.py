"""`--config`: settings from a file, and what is wrong in one told with its name and the setting's."""

from pathlib import Path

import pytest
from cli_runner import Ip2p, files

pytest_plugins = ["cli_fixtures"]


@pytest.mark.parametrize("image", ["cat.jpg", "[cat.jpg]"])
def test_a_flag_overrides_the_settings_file(edit: Ip2p, folder: Path, image: str) -> None:
    Path("winter.yaml").write_text(f"image: {image}\ninstruction: make it winter\nseed: 3\noutput: a.png\n")
    assert "seed 3 " in edit("--config", "winter.yaml").out
    assert "seed 4 " in edit("--config", "winter.yaml", "--seed", 4, "-o", "b.png").out
    assert {"a.png", "b.png"} <= files(folder)


def test_what_the_settings_file_switches_on_a_flag_switches_off(ip2p: Ip2p, folder: Path) -> None:
    Path("winter.yaml").write_text("image: cat.jpg\ninstruction: make it winter\noverwrite: true\n")
    on, off = (
        ip2p("edit", "--config", "winter.yaml", *flags, "--print-config").out for flags in ([], ["--no-overwrite"])
    )
    assert "overwrite: true" in on and "overwrite: false" in off


def test_what_is_printed_can_be_read_again(ip2p: Ip2p) -> None:
    flags = ["--guidance-scale", 3, "--guidance-interval", 0.25, 1, "--scheduler", "heun", "--overwrite", "-o", "v1.0/"]
    printed = ip2p("edit", "cat.jpg", "겨울로 만들어 줘", *flags, "--print-config").out
    Path("winter.yaml").write_text(printed, encoding="utf-8")
    assert ip2p("edit", "--config", "winter.yaml", "--print-config").out == printed
    assert "guidance_scale: 3.0" in printed


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"guidance: 7", "there is no setting guidance"),
        (b"image: []", "image is a path or several, not []"),
        (b"image: [3]", "image is a path or several, not [3]"),
        (b"num_images: null", "num_images is a whole number, not null"),
        (b"num_images: 2.5", "num_images is a whole number, not 2.5"),
        (b"guidance_scale: [3, 4]", "guidance_scale is a number or null, not [3, 4]"),
        (b"guidance_interval: [0.5]", "guidance_interval is [a number, a number], not [0.5]"),
        (b"guidance_schedule: square", "guidance_schedule is constant or linear or cosine"),
        (b'overwrite: "false"', 'overwrite is true or false, not "false"'),
        (b"overwrite: sure", 'overwrite is true or false, not "sure"'),
        (b"- 3", "holds no settings"),
        (b"steps: [", "is neither YAML nor JSON"),
        (b"instruction: \xff", "is not text in UTF-8"),
    ],
)
def test_a_wrong_settings_file_is_wrong_usage(edit: Ip2p, folder: Path, content: bytes, says: str) -> None:
    Path("winter.yaml").write_bytes(content)
    before = files(folder)
    result = edit("cat.jpg", "make it winter", "--config", "winter.yaml")
    assert (result.code, result.out) == (2, "")
    _, told = result.err.splitlines()
    assert "winter.yaml" in told
    assert says in told
    assert files(folder) == before
