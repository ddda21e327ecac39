"""How often the shapes base model draws what a caption says, on scenes it was never trained on.

    python benchmarks/shapes_base.py --model runs/base/pipeline [--quick]

Half the captions have only combinations of colour and shape that training showed, half have one it never showed. The
last line has the figures.
"""

import argparse
import random

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from ip2p.training.shapes.captions import caption
from ip2p.training.shapes.oracle import read, shows
from ip2p.training.shapes.scenes import Scene, random_scene
from PIL import Image

BATCH = 50


def draw(pipe: StableDiffusionPipeline, scenes: list[Scene], steps: int, guidance_scale: float) -> list[np.ndarray]:
    """One picture [64, 64, 3] uint8 a scene, from a caption of it."""
    pictures: list[np.ndarray] = []
    for at in range(0, len(scenes), BATCH):
        captions = [caption(scene, random.Random(at + i)) for i, scene in enumerate(scenes[at : at + BATCH])]
        generators = [torch.Generator().manual_seed(at + i) for i in range(len(captions))]
        images = pipe(captions, num_inference_steps=steps, guidance_scale=guidance_scale, generator=generators).images
        pictures += [np.array(image) for image in images]
    return pictures


def main() -> None:
    """Print the share of captions drawn right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the Stable Diffusion pipeline")
    parser.add_argument("--each", type=int, default=250, help="captions with, and captions without, held-out ones")
    parser.add_argument("--quick", action="store_true", help="50 of each")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    parser.add_argument("--sheet", help="write the first pictures here")
    arguments = parser.parse_args()
    each = 50 if arguments.quick else arguments.each

    pipe = StableDiffusionPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    right, rows = {}, []
    for name, held_out in (("seen", False), ("held_out", True)):
        scenes = [random_scene(random.Random(f"test/{name}/{index}"), held_out) for index in range(each)]
        pictures = draw(pipe, scenes, arguments.steps, arguments.guidance_scale)
        right[name] = float(np.mean([shows(p, s) for p, s in zip(pictures, scenes, strict=True)]))
        unread = np.mean([read(picture) is None for picture in pictures])
        print(f"{name}: right {right[name]:.1%}, unreadable {unread:.1%}", flush=True)
        rows.append(np.hstack(pictures[:12]))
    if arguments.sheet:
        Image.fromarray(np.vstack(rows)).save(arguments.sheet)
    print(f"captions={2 * each} right_seen={right['seen']:.3f} right_held_out={right['held_out']:.3f}")


if __name__ == "__main__":
    main()
