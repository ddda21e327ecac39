"""Our trainer against diffusers' own script: images a second, peak memory, and that a killed run ends as another.

    python benchmarks/train.py --peer train_instruct_pix2pix.py [--quick] [--only PART …] [--rounds N]

Besides: `linear`, how much longer twice the data and steps take, of what is expected, and the share of 100,000
examples that lose a condition.

The script is diffusers' examples/instruct_pix2pix/train_instruct_pix2pix.py, fetched apart. Both train the same random
model on the same pairs with the same settings, in processes of their own of one thread: `sd` has Stable Diffusion 1.5's
shape at a quarter of its width (U-Net, autoencoder and text encoder alike), with a quarter of its heads of attention,
as wide as there, at 256 pixels; `shapes` is the base inside the package, at 64. Images a second are counted between
progress bars, without the first steps; each round runs the peer, ours with the cache, ours without, and the peer once
more. `limit` is what the cache can bring at most, by the time that autoencoder, text encoder and U-Net take when they
are run by themselves; `sd15_limit` by their operations at full width, at 256 and 512 pixels. Memory is the process's
peak, at half the width. The last line has the figures.
"""

import argparse
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from ip2p.ip2p_pipeline.single_file import CLIP_L, SD, SD_NOISE, clip_tokenizer
from ip2p.ip2p_pipeline.widening import widen
from ip2p.training.finetune.draws import Dropped, draw_dropped
from ip2p.training.finetune.memory import account
from ip2p.training.finetune.settings import FinetuneSettings
from ip2p.training.pairs.importers import import_pairs
from ip2p.training.shapes.models import SHAPES_BASE
from ip2p.training.shapes.rendered import RenderedLayout
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

WARM = 3  # steps that are not counted
PARTS = ("speed", "memory", "resume", "linear")
RUNS = ("peer", "cached", "plain", "peer")


@dataclass(frozen=True)
class Case:
    """What both train."""

    name: str
    model: Path
    resolution: int
    batch_size: int
    steps: int


def sd_model(folder: Path, shrink: int) -> Path:
    """A text-to-image model of Stable Diffusion 1.5's shape, that many times narrower, with random weights."""
    if folder.exists():
        return folder
    torch.manual_seed(0)
    text = {
        name: value if name in ("num_hidden_layers", "hidden_act") else value // shrink
        for name, value in dict[str, Any](CLIP_L).items()
    }
    unet = UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        cross_attention_dim=text["hidden_size"],
        attention_head_dim=8 // shrink,  # how many heads there are, of which Stable Diffusion has 8
        block_out_channels=tuple(width // shrink for width in (320, 640, 1280, 1280)),
        norm_num_groups=32 // shrink,
    )
    vae = {**SD["vae"], "block_out_channels": tuple(width // shrink for width in SD["vae"]["block_out_channels"])}
    StableDiffusionPipeline(
        vae=AutoencoderKL(**vae, norm_num_groups=32 // shrink),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        tokenizer=clip_tokenizer("<|endoftext|>"),
        unet=unet,
        scheduler=DDPMScheduler(**{name: value for name, value in SD_NOISE.items() if name != "steps_offset"}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def commands(case: Case, data: Path, output: Path, arguments: argparse.Namespace, *flags: str) -> dict[str, list[str]]:
    """The same training by the peer and by ours."""
    peer = [
        str(arguments.peer), "--pretrained_model_name_or_path", str(case.model), "--dataset_name", str(data),
        "--original_image_column", "original_image", "--edit_prompt_column", "edit_prompt",
        "--edited_image_column", "edited_image", "--resolution", str(case.resolution), "--random_flip",
        "--train_batch_size", str(case.batch_size), "--max_train_steps", str(case.steps), "--learning_rate", "1e-4",
        "--conditioning_dropout_prob", "0.05", "--use_ema", "--seed", "0", "--mixed_precision", "no",
        "--checkpointing_steps", "1000000", "--output_dir", str(output), "--report_to", "tensorboard",
        *(["--gradient_checkpointing"] if "--gradient-checkpointing" in flags else []),
    ]  # fmt: skip
    side = str(case.resolution)
    ours = [
        "-m", "ip2p.cli", "train", "--model", str(case.model), "--data", str(data), "--resolution", side,
        "--resize-max", side, "--batch-size", str(case.batch_size), "--steps", str(case.steps),
        "--learning-rate", "1e-4", "--max-grad-norm", "1", "--mixed-precision", "no", "--save-every", "1000000",
        "--validate-every", "0", "--held-out", "0", "--cpu", "-o", str(output), *flags,
    ]  # fmt: skip
    made = {"peer": peer, "plain": ours, "cached": [*ours, "--cache"]}
    return {name: [sys.executable, *words] for name, words in made.items()}


@dataclass
class Run:
    """What a training took."""

    seconds_a_step: float
    peak: float
    """GiB."""


def environment() -> dict[str, str]:
    """One thread, on the CPU, and nothing from the Hub."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}


def watched(command: list[str], steps: int) -> Run:
    """Run a training, and read its progress bar."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
    assert process.stderr is not None
    seen: dict[int, float] = {}
    text = b""
    while chunk := os.read(process.stderr.fileno(), 65536):
        text = (text + chunk)[-20_000:]
        for step in re.findall(rb"(?:Steps|training):[^\r\n]*?\| (\d+)/%d \[" % steps, chunk):
            seen.setdefault(int(step), time.monotonic())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{text.decode(errors='replace')[-3000:]}")
    counted = {step: at for step, at in seen.items() if step >= WARM}
    first, last = min(counted), max(counted)
    return Run((counted[last] - counted[first]) / (last - first), usage.ru_maxrss / 2**20)


def speed(case: Case, data: Path, aside: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Images a second of ours over the peer's, and what the cache could bring at most."""
    runs: dict[str, list[list[float]]] = {"peer": [], "cached": [], "plain": []}
    for round_number in range(arguments.rounds):
        of_round: dict[str, list[float]] = {"peer": [], "cached": [], "plain": []}
        for turn, name in enumerate(RUNS):
            output = aside / f"{case.name}-{round_number}-{turn}"
            run = watched(commands(case, data, output, arguments)[name], case.steps)
            of_round[name].append(run.seconds_a_step)
            print(
                f"{case.name:<8}{name:<8}{case.batch_size / run.seconds_a_step:>8.2f} images/s  {run.peak:.2f} GiB",
                flush=True,
            )
        for name, seconds in of_round.items():
            runs[name].append(seconds)
    peers = [statistics.mean(each) for each in runs["peer"]]
    found = {
        name: statistics.median(peer / statistics.mean(ours) for peer, ours in zip(peers, runs[name], strict=True))
        for name in ("cached", "plain")
    }
    return {**found, "limit": limit(case)}


def limit(case: Case) -> float:
    """How many times faster a step is without autoencoder and text encoder, by their own times."""
    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained(case.model, torch_dtype=torch.float32)
    unet = widen(pipe.unet).train()
    side = case.resolution // pipe.vae_scale_factor
    pictures = torch.rand(case.batch_size, 3, case.resolution, case.resolution)
    tokens = pipe.tokenizer(["make it winter"] * case.batch_size, padding="max_length", return_tensors="pt").input_ids
    text = pipe.text_encoder(tokens)[0].detach()

    def encode() -> None:
        with torch.no_grad():
            for _ in ("before", "after"):
                pipe.vae.encode(pictures)
            pipe.text_encoder(tokens)
            pipe.text_encoder(tokens[:1])  # the script encodes the empty text at every step

    def step() -> None:
        unet(
            torch.randn(case.batch_size, 8, side, side), torch.zeros(case.batch_size), text
        ).sample.square().mean().backward()

    times = []
    for work in (encode, step):
        work()
        start = time.monotonic()
        for _ in range(3):
            work()
        times.append(time.monotonic() - start)
    print(f"{case.name:<8}autoencoder and text encoder are {times[0] / sum(times):.0%} of a step without a cache")
    return sum(times) / times[1]


def limit_by_operations(side: int) -> float:
    """The same limit for Stable Diffusion 1.5 itself at a side in pixels, by floating-point operations; a gradient
    takes twice those of the pass."""

    def count(work: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()

    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**SD["unet"]), AutoencoderKL(**SD["vae"])
        text = CLIPTextModel(CLIPTextConfig(**CLIP_L))
        noisy = torch.empty(1, unet.config.in_channels, side // 8, side // 8)
        step = 3 * count(lambda: unet(noisy, torch.empty(1), torch.empty(1, 77, 768)))
        encode = 2 * count(lambda: vae.encode(torch.empty(1, 3, side, side)))
        told = 2 * count(lambda: text(torch.empty(1, 77, dtype=torch.long)))
    return (step + encode + told) / step


def memory(case: Case, aside: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory of ours over the peer's: at the same settings, at the least that either can do with to train all of
    it, and of a LoRA over that least of the peer's, which has none."""
    data = aside / "least"
    import_pairs(RenderedLayout(16), data, 4096)
    least = ["--gradient-checkpointing"]
    found = {}
    for name, flags in (("same", []), ("low", least), ("lora", [*least, "--train", "lora"])):
        made = commands(case, data, aside / f"memory-{name}", arguments, *flags)
        theirs = watched(made["peer"], case.steps).peak
        ours = watched(made["cached" if flags else "plain"], case.steps).peak
        print(f"memory  {name:<5} peer {theirs:.2f} GiB  ours {ours:.2f} GiB: {accounted(case, name)}", flush=True)
        found[name] = ours / theirs
    return found


def accounted(case: Case, name: str) -> str:
    """What ours takes by component, in GiB, as `ip2p train --dry-run` tells it, Python and its libraries left out."""
    given: dict[str, Any] = {"gradient_checkpointing": True, "cache": True} if name != "same" else {}
    told = account(
        FinetuneSettings(
            model=str(case.model),
            resolution=case.resolution,
            batch_size=case.batch_size,
            mixed_precision="no",
            train="lora" if name == "lora" else "full",
            **given,
        )
    )
    return ", ".join(f"{component} {size / 2**30:.2f}" for component, size in told.items() if size > 2**20)


def resume(case: Case, data: Path, aside: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Kill a training at random moments until it ends; whether its weights are those of one that was left alone."""
    command = commands(case, data, aside / "whole", arguments, "--cache")["plain"]
    start = time.monotonic()
    watched(command, case.steps)
    lasts = time.monotonic() - start
    cut = [str(aside / "cut") if word == str(aside / "whole") else word for word in command]
    cut[cut.index("--save-every") + 1] = "2"
    rng, kills = random.Random(0), 0
    while True:
        process = subprocess.Popen(
            cut, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=environment()
        )
        try:
            process.wait(rng.uniform(0.5, 1.0) * lasts)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        if kills:
            break
        shutil.rmtree(aside / "cut")  # the machine has been busier before: nothing is proved without a kill
        lasts *= 0.8
    one, other = (load_file(aside / name / "state.safetensors") for name in ("whole", "cut"))
    same = all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    print(f"resume  {kills} kills, {'the same weights' if same else 'OTHER WEIGHTS'}", flush=True)
    return {"kills": kills, "same": float(same)}


def linear(case: Case, aside: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """What data and steps that double twice take more the second time, by what they take more the first time: 2 is
    linear, and given as 1."""
    seconds = []
    for times in (1, 2, 4):
        data = aside / f"linear-{times}"
        import_pairs(RenderedLayout(times * 16 * case.steps // 2), data, 4096)
        longer = replace(case, steps=times * case.steps)
        start = time.monotonic()
        watched(commands(longer, data, aside / f"linear-run-{times}", arguments)["cached"], longer.steps)
        seconds.append(time.monotonic() - start)
    print(f"linear  {', '.join(f'{each:.1f} s' for each in seconds)}", flush=True)
    return {"linear": (seconds[2] - seconds[1]) / (seconds[1] - seconds[0]) / 2}


def dropout() -> dict[str, float]:
    """Shares of examples that lose the instruction alone, the picture alone, and both."""
    settings = FinetuneSettings()
    drawn = Counter(draw_dropped(number, settings.seed, settings) for number in range(100_000))
    names = {"text": (True, False), "image": (False, True), "both": (True, True)}
    return {f"dropped_{name}": drawn[Dropped(*lost)] / 100_000 for name, lost in names.items()}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="diffusers' train_instruct_pix2pix.py")
    parser.add_argument("--quick", action="store_true", help="the shapes model alone, few steps, no memory")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        aside = Path(folder)
        data = aside / "pairs"
        import_pairs(RenderedLayout(64 if arguments.quick else 512), data, 4096)
        shapes = Case("shapes", SHAPES_BASE, 64, 16, 8 if arguments.quick else 40)
        if arguments.quick:
            arguments.rounds = 1
        cases = [(shapes, data)]
        if not arguments.quick:
            few = aside / "few"
            import_pairs(RenderedLayout(48), few, 4096)
            cases.append((Case("sd", sd_model(aside / "sd4", 4), 256, 4, 12), few))
        for case, of in cases if "speed" in arguments.only else ():
            figures |= {f"{case.name}_{name}": value for name, value in speed(case, of, aside, arguments).items()}
        figures |= {f"sd15_limit_{side}": limit_by_operations(side) for side in (256, 512)}
        if "memory" in arguments.only and not arguments.quick:
            half = Case("sd2", sd_model(aside / "sd2", 2), 256, 1, 4)
            figures |= {f"memory_{name}": value for name, value in memory(half, aside, arguments).items()}
        if "resume" in arguments.only:
            figures |= resume(shapes, data, aside, arguments)
        if "linear" in arguments.only and not arguments.quick:
            figures |= linear(shapes, aside, arguments)
    figures |= dropout()
    print(" ".join(f"{name}={value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
