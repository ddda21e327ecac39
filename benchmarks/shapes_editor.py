"""How often the shapes editor is right, by kind of edit, on combinations it was never trained on.

    python benchmarks/shapes_editor.py [--quick] [--model FOLDER]

Each held-out edit (an object of a size, colour and shape never drawn together in training stands before or after it)
is made by the pipeline, and the oracle says whether the result shows the scene that the instruction asks for.
`change outside` is the mean absolute difference (of 1) to the picture before, outside the edited objects, or within
the objects for a change of background; `kept` is the share of edits where it is below 0.03. The last line has the
figures.
"""

import argparse

import numpy as np
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.training.shapes.edits import KINDS
from ip2p.training.shapes.judging import make_edits, trial_edits
from ip2p.training.shapes.oracle import change_outside, shows, unchanged
from ip2p.training.shapes.render import render
from PIL import Image


def main() -> None:
    """Print accuracy by kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SHAPES_MODEL, help="folder of the model; the shipped one if not given")
    parser.add_argument("--each", type=int, default=64, help="edits of each kind")
    parser.add_argument("--quick", action="store_true", help="8 edits of each kind")
    parser.add_argument("--seen", action="store_true", help="combinations that were trained on, instead")
    parser.add_argument("--guidance-scale", type=float, help="the model's own if not given")
    parser.add_argument("--image-guidance-scale", type=float, help="the model's own if not given")
    parser.add_argument("--steps", type=int, help="the model's own if not given")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--sheet", help="write the first edits of each kind to this picture: before, made, asked for")
    arguments = parser.parse_args()
    each = 8 if arguments.quick else arguments.each

    pipe = InstructPix2PixPipeline.from_pretrained(arguments.model).to(arguments.device)
    pipe.set_progress_bar_config(disable=True)
    settings = {
        "guidance_scale": arguments.guidance_scale,
        "image_guidance_scale": arguments.image_guidance_scale,
        "num_inference_steps": arguments.steps,
    }
    print(f"{'kind':<12} {'right':>7} {'kept':>7} {'change outside':>15}")
    right_by_kind, outside, rows = {}, [], []
    for kind in KINDS:
        edits = trial_edits(kind, each, held_out=not arguments.seen)
        pictures = make_edits(pipe, edits, **{name: value for name, value in settings.items() if value is not None})
        right = [shows(picture, edit.target) for picture, edit in zip(pictures, edits, strict=True)]
        change = [
            change_outside(render(edit.source), picture, unchanged(edit.source, edit.target))
            for picture, edit in zip(pictures, edits, strict=True)
        ]
        right_by_kind[kind] = float(np.mean(right))
        outside += change
        kept = float(np.mean(np.array(change) < 0.03))
        print(f"{kind:<12} {np.mean(right):>7.1%} {kept:>7.1%} {np.mean(change):>15.4f}", flush=True)
        shown = zip(edits[:8], pictures, strict=False)
        rows.append(np.hstack([np.hstack([render(e.source), p, render(e.target)]) for e, p in shown]))
    if arguments.sheet:
        sheet = Image.fromarray(np.vstack(rows))
        sheet.save(arguments.sheet)
    worst = min(right_by_kind, key=lambda kind: right_by_kind[kind])
    print(
        f"edits={each * len(KINDS)} right={np.mean(list(right_by_kind.values())):.3f} "
        f"worst_kind={worst} worst_right={right_by_kind[worst]:.3f} "
        f"mean_change_outside={np.mean(outside):.4f} kept={np.mean(np.array(outside) < 0.03):.3f}"
    )


if __name__ == "__main__":
    main()
