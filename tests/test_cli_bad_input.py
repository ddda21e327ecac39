"""Bad input: one sentence on stderr, exit 1, and no file that was not there before."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import Ip2p, Result, files
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from ip2p import InstructPix2PixPipeline
from PIL import Image
from tiny_models import TEXT_WIDTH, feature_extractor, image_encoder, picture, text_config
from transformers import CLIPConfig

pytest_plugins = ["cli_fixtures"]

Refused = Callable[..., str]


@pytest.fixture
def refused(edit: Ip2p, folder: Path) -> Refused:
    """Runs a command that must fail cleanly, and gives its sentence."""

    def run(*arguments: object, command: Ip2p = edit) -> str:
        before = files(folder)
        result = command(*arguments)
        assert sentence(result)
        assert files(folder) == before
        return sentence(result)

    return run


def sentence(result: Result) -> str:
    assert (result.code, result.out) == (1, "")
    [line] = result.err.splitlines()
    assert line.startswith("ip2p: ")
    return line


def bomb() -> bytes:
    """A PNG of 100,000 by 100,000 pixels in under a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.png", b"these are notes", "is not a picture"),
        ("empty.png", b"", "is empty"),
        ("bomb.png", bomb(), "too many pixels"),
    ],
)
def test_no_picture(refused: Refused, name: str, content: bytes, says: str) -> None:
    Path(name).write_bytes(content)
    told = refused(name, "make it winter")
    assert name in told
    assert says in told


def test_a_large_bomb_of_few_pixels_too_many_gives_no_warning_besides(refused: Refused) -> None:
    Image.new("1", (10_000, 10_000)).save("wide.png")  # Pillow only warns of this one
    assert "10000×10000" in refused("wide.png", "make it winter")


def test_truncated_picture(refused: Refused) -> None:
    picture().save("whole.png")
    Path("cut.png").write_bytes(Path("whole.png").read_bytes()[:400])
    assert "cut.png" in refused("cut.png", "make it winter")


def test_missing_file(refused: Refused) -> None:
    assert refused("nowhere.jpg", "make it winter") == "ip2p: There is no picture at nowhere.jpg."


def test_folder_without_pictures(refused: Refused) -> None:
    Path("empty").mkdir()
    assert "There is no picture in the folder empty" in refused("empty", "make it winter")


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10)])
def test_extreme_sizes_are_edited(edit: Ip2p, size: tuple[int, int]) -> None:
    picture(1, *size).save("extreme.png")
    assert edit("extreme.png", "make it winter").code == 0
    assert Image.open("extreme-edited.png").size == size


@pytest.mark.parametrize("instruction", ["", "  "])
def test_empty_instruction(refused: Refused, instruction: str) -> None:
    assert "The instruction is empty" in refused("cat.jpg", instruction)


def test_forgotten_instruction(refused: Refused) -> None:
    Path("photos").mkdir()
    assert "dog.png is a file" in refused("cat.jpg", "dog.png")
    assert "photos is a folder" in refused("cat.jpg", "photos")


def test_texts_that_are_no_utf8(refused: Refused) -> None:
    assert "instruction is not text in UTF-8: '\\udcffrot'" in refused("cat.jpg", "\udcffrot")
    assert "negative prompt is not" in refused("cat.jpg", "make it winter", "--negative-prompt", "\udcff")


def test_an_instruction_longer_than_a_file_name_is_none(edit: Ip2p) -> None:
    assert edit("cat.jpg", "겨울로 만들어 줘 " * 40).code == 0


def test_what_is_cut_off_a_long_instruction_is_told_once(edit: Ip2p) -> None:
    result = edit("cat.jpg", "dog.png", "a" * 75 + "b" * 425)
    assert result.code == 0
    [line] = result.err.splitlines()
    assert "'" + "b" * 425 + "'" in line


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("guidance-scale", ["nan"]),
        ("guidance-scale", ["inf"]),
        ("image-guidance-scale", ["-1"]),
        ("guidance-interval", ["0.5", "0.2"]),
        ("guidance-rescale", ["2"]),
        ("adaptive-stop", ["1"]),
        ("relevance-threshold", ["0", "--relevance-mask"]),
        ("relevance-threshold", ["0.2"]),
        ("strength", ["0"]),
        ("strength", ["1.5"]),
        ("strength", ["nan"]),
        ("mask-feather", ["3"]),
        ("steps", ["0"]),
        ("num-images", ["0"]),
        ("resolution", ["0"]),
        ("seed", ["-1"]),
    ],
)
def test_settings_without_meaning(refused: Refused, ip2p: Ip2p, flag: str, values: list[str]) -> None:
    # No model is looked for: this is told before any download.
    told = refused("edit", "cat.jpg", "make it winter", "--model", "no/such", f"--{flag}", *values, command=ip2p)
    assert flag.replace("-", "_") in told.replace("-", "_")


def test_mask_of_another_size(refused: Refused) -> None:
    Image.new("L", (10, 10), 255).save("mask.png")
    told = refused("cat.jpg", "make it winter", "--mask", "mask.png")
    assert "10×10" in told
    assert "48×32" in told


def test_missing_mask(refused: Refused) -> None:
    assert "nowhere.png" in refused("cat.jpg", "make it winter", "--mask", "nowhere.png")


def test_too_little_memory(edit: Ip2p, folder: Path) -> None:
    resource = pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux holds to a limit of memory and tells what is in use")
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 700 * 2**20, limits[1]))
    try:
        result = edit("cat.jpg", "dog.png", "make it winter", "--resolution", 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    told = "ip2p: There is too little memory on cpu: lower --resolution, or for a grid --batch-size."
    assert (result.code, result.err.splitlines()) == (1, [told, told, "ip2p: 0 of 2 pictures edited."])
    assert files(folder) == {"cat.jpg", "dog.png"}


def test_a_picture_that_the_safety_checker_blacks_out(refused: Refused, ip2p: Ip2p, tiny_model: Path) -> None:
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(text_config=text_config(), vision_config=image_encoder().config, projection_dim=TEXT_WIDTH)
    )
    checker.concept_embeds_weights.data.fill_(-1)  # every picture is nearer than that to each concept
    strict = {"safety_checker": checker, "feature_extractor": feature_extractor()}
    InstructPix2PixPipeline.from_pretrained(tiny_model, **strict).save_pretrained("strict")
    arguments = ["cat.jpg", "make it winter", "--model", "strict", "--steps", 1]
    assert "safety checker" in refused("edit", *arguments, command=ip2p)
    assert "safety checker" in refused("grid", *arguments, command=ip2p)


def test_output_below_a_file(refused: Refused) -> None:
    for output in ("dog.png/new.png", "dog.png/folder", "/dev/full", "/dev/full/new.png"):
        assert "is not a folder" in refused("cat.jpg", "make it winter", "-o", output)


def test_output_of_an_unknown_format(refused: Refused) -> None:
    assert ".png" in refused("cat.jpg", "make it winter", "-o", "cat.gif")


def test_existing_output(refused: Refused) -> None:
    before = Path("dog.png").read_bytes()
    assert "--overwrite" in refused("cat.jpg", "make it winter", "-o", "dog.png")
    assert Path("dog.png").read_bytes() == before


def test_one_output_file_for_several_results(refused: Refused) -> None:
    assert "give a folder" in refused("cat.jpg", "dog.png", "make it winter", "-o", "one.png")
    assert "give a folder" in refused("cat.jpg", "make it winter", "-o", "one.png", "--num-images", 2)


def test_a_full_disk_leaves_nothing(refused: Refused) -> None:
    picture(1, 300, 300).save("photo.png")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        told = refused("photo.png", "make it winter")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told == "ip2p: photo-edited.png can't be written: File too large."


def test_one_bad_picture_of_several_does_not_stop_the_others(edit: Ip2p, folder: Path) -> None:
    Path("notes.png").write_text("these are notes")
    Path("empty").mkdir()
    result = edit("notes.png", "cat.jpg", "missing.png", "empty", "dog.png", "make it winter")
    assert result.code == 1
    assert {"cat-edited.png", "dog-edited.png"} <= files(folder)
    empty, notes, missing, summary = result.err.splitlines()
    assert "folder empty" in empty
    assert "notes.png" in notes
    assert "missing.png" in missing
    assert summary == "ip2p: 2 of 4 pictures edited."
