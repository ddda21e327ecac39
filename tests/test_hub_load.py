"""What is published loads every way that users load it, where ip2p is not installed, and edits the same to the bit."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from hub_fixtures import HubHere
from ip2p import InstructPix2PixPipeline
from PIL import Image
from tiny_models import lora, sd_pipeline

pytestmark = pytest.mark.slow

PRELUDE = """
import sys
sys.modules["ip2p"] = None  # as where it is not installed
import hashlib
import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionInstructPix2PixPipeline as Stock
from PIL import Image
torch.set_num_threads(1)

def edit(pipe):
    pipe.set_progress_bar_config(disable=True)
    picture = Image.fromarray((np.arange(64 * 64 * 3).reshape(64, 64, 3) % 251).astype(np.uint8))
    call = dict(num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(1))
    print(type(pipe).__module__, hashlib.sha256(pipe("red", image=picture, **call).images.tobytes()).hexdigest())

def ours(name, **more):
    return DiffusionPipeline.from_pretrained(name, custom_pipeline=name, trust_remote_code=True, **more)
"""
# For each line on stdin, a program as JSON, it prints the exit status, stdout and stderr as a line of JSON. The program
# runs in a process of its own, which begins as this one is after the prelude.
FORKING = """
import json, os, tempfile, traceback

def run(program):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                exec(program, globals())
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        for file in (out, err):
            file.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()

for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
"""
Loaded = Callable[[str], list[tuple[str, str]]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubHere]:
    """A Hub with two models, one with a LoRA."""
    here = HubHere(tmp_path_factory.mktemp("hub"))
    sd_pipeline().save_pretrained(here.folder / "model")
    sd_pipeline(default_num_inference_steps=3).save_pretrained(here.folder / "other")
    lora(sd_pipeline, here.folder / "lora")
    for name in ("model", "other", "lora"):
        flags = ["--fp16"] if name == "model" else []
        code, _, err = here.ip2p("hub", "publish", here.folder / name, "--to", f"me/{name}", "--license", "mit", *flags)
        assert code == 0, err
    yield here
    here.stop()


def edited(pipe: Any) -> str:
    """The hash of an edit in this process."""
    pipe.set_progress_bar_config(disable=True)
    picture = Image.fromarray((np.arange(64 * 64 * 3).reshape(64, 64, 3) % 251).astype(np.uint8))
    call = {"num_inference_steps": 2, "output_type": "np", "generator": torch.Generator().manual_seed(1)}
    return hashlib.sha256(pipe("red", image=picture, **call).images.tobytes()).hexdigest()


def by_stock(folder: Path, **more: Any) -> Any:
    return StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, **more)


def told(out: str) -> list[tuple[str, str]]:
    """Module of the class and hash of each edit, of what a program prints."""
    lines = [line.split() for line in out.splitlines()]
    return [(line[0], line[1]) for line in lines if len(line) == 2]


@pytest.fixture(scope="module")
def loaded(hub: HubHere) -> Iterator[Loaded]:
    """What a program after the prelude tells of its edits, in a process of its own, forked where that is imported."""
    command = [sys.executable, "-c", PRELUDE + FORKING]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env=hub.environment(), cwd="/", **pipes)

    def run(program: str) -> list[tuple[str, str]]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(program) + "\n")
        process.stdin.flush()
        code, out, err = json.loads(process.stdout.readline())
        assert code == 0, err
        return told(out)

    yield run
    process.terminate()
    process.wait()


@pytest.fixture(params=["folder", "hub"])
def place(hub: HubHere, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """How a program names a repository: by the folder that it was pulled to, or by its id."""
    if request.param == "hub":
        return lambda name: f"me/{name}"

    def pulled(name: str) -> str:
        folder = hub.folder / "pulled" / name
        for flags in ([], ["--variant", "fp16"]) if name == "model" else ([],):
            flags = [*flags, "--output", folder, "--trust-remote-code"]
            code, _, err = hub.ip2p("hub", "pull", f"me/{name}", *flags)
            assert code == 0, err
        return str(folder)

    return pulled


def test_by_diffusers_own_class(hub: HubHere, loaded: Loaded, place: Callable[[str], str]) -> None:
    [(module, found)] = loaded(f"edit(Stock.from_pretrained({place('model')!r}))")
    assert module.startswith("diffusers.pipelines") and found == edited(by_stock(hub.folder / "model"))


def test_by_our_code_beside_the_weights(hub: HubHere, loaded: Loaded, place: Callable[[str], str]) -> None:
    [(module, found)] = loaded(f"edit(ours({place('model')!r}))")
    assert module.startswith("diffusers_modules")
    assert found == edited(InstructPix2PixPipeline.from_pretrained(hub.folder / "model"))


def test_from_a_pipeline_that_is_loaded(hub: HubHere, loaded: Loaded, place: Callable[[str], str]) -> None:
    name = place("model")
    [(_, found)] = loaded(f"edit(type(ours({name!r})).from_pipe(Stock.from_pretrained({name!r})))")
    assert found == edited(InstructPix2PixPipeline.from_pretrained(hub.folder / "model"))


def test_a_lora_by_both(hub: HubHere, loaded: Loaded, place: Callable[[str], str]) -> None:
    name = place("model")
    program = (
        f"for pipe in (Stock.from_pretrained({name!r}), ours({name!r})):\n"
        f"    pipe.load_lora_weights({place('lora')!r}); edit(pipe)"
    )
    pipes = [by_stock(hub.folder / "model"), InstructPix2PixPipeline.from_pretrained(hub.folder / "model")]
    for pipe, (_, found) in zip(pipes, loaded(program), strict=True):
        pipe.load_lora_weights(hub.folder / "lora")
        assert found == edited(pipe)


def test_the_variant_in_half_precision(hub: HubHere, loaded: Loaded, place: Callable[[str], str]) -> None:
    name = place("model")
    program = (
        "for load in (Stock.from_pretrained, ours):\n"
        f"    edit(load({name!r}, variant='fp16', torch_dtype=torch.float32))"
    )
    folder = hub.folder / "model"
    half = [
        load(folder, torch_dtype=torch.float16).to(torch.float32)
        for load in (by_stock, InstructPix2PixPipeline.from_pretrained)
    ]
    assert [found for _, found in loaded(program)] == [edited(pipe) for pipe in half]


def test_two_repositories_in_one_process(hub: HubHere, loaded: Loaded, place: Callable[[str], str]) -> None:
    name = place("model")
    program = (
        f"one, two = ours({name!r}), ours({place('other')!r})\nedit(one); edit(two)\n"
        "print(*(pipe.config.default_num_inference_steps for pipe in (one, two)))"
    )
    (one, first), (two, second), recommended = loaded(program)
    assert first == second  # the same weights, each by its own code; folders' code diffusers calls by one name
    assert (one != two) == name.startswith("me/")
    assert recommended == ("None", "3")


def test_offline_from_the_cache(hub: HubHere) -> None:
    """By its id diffusers' own class, and by its folder in the cache ours: by the id, diffusers asks for the code."""
    code, out, err = hub.ip2p("hub", "pull", "me/model", "--trust-remote-code")
    assert code == 0, err
    folder = out.splitlines()[-1]
    # In a Python of its own: that it is offline is read when huggingface_hub is imported.
    program = f"edit(ours({folder!r})); edit(Stock.from_pretrained('me/model'))"
    (_, first), (_, second) = told(hub.python(PRELUDE + program, offline=True))
    assert first == edited(InstructPix2PixPipeline.from_pretrained(hub.folder / "model"))
    assert second == edited(by_stock(hub.folder / "model"))


def test_what_is_saved_again_loads_again(hub: HubHere, loaded: Loaded, place: Callable[[str], str]) -> None:
    saved = str(hub.folder / "saved")
    program = (
        f"ours({place('model')!r}).save_pretrained({saved!r})\n"
        f"edit(ours({saved!r})); edit(Stock.from_pretrained({saved!r}))"
    )
    (_, first), (_, second) = loaded(program)
    assert first == edited(InstructPix2PixPipeline.from_pretrained(hub.folder / "model"))
    assert second == edited(by_stock(hub.folder / "model"))
