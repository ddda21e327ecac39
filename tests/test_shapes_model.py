"""The models that the package ships."""

import random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from ip2p import SHAPES_FEW_MODEL, SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.training.shapes.autoencoder import to_pictures, to_tensor
from ip2p.training.shapes.edits import KINDS
from ip2p.training.shapes.judging import make_edits, trial_edits
from ip2p.training.shapes.oracle import shows
from ip2p.training.shapes.scenes import random_scene
from test_shapes_ship import MOST_BYTES, size


@pytest.mark.parametrize("folder", [SHAPES_MODEL, SHAPES_FEW_MODEL])
def test_each_has_a_card_and_is_small(folder):
    assert (folder / "README.md").is_file()
    assert size(folder) < MOST_BYTES


def test_the_distilled_one_edits_in_four_steps_of_one_evaluation():
    few = InstructPix2PixPipeline.from_pretrained(SHAPES_FEW_MODEL)
    few.set_progress_bar_config(disable=True)
    seen = []
    few.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    edits = [edit for kind in KINDS for edit in trial_edits(kind, 2)]
    made = make_edits(few, edits)
    assert sum(seen) == 4 * len(edits)
    assert np.mean([shows(picture, edit.target) for picture, edit in zip(made, edits, strict=True)]) >= 0.7


def test_the_oracle_reads_pictures_that_went_through_its_autoencoder():
    rng = random.Random("round trip")
    scenes = [random_scene(rng, held_out=bool(i % 2)) for i in range(300)]
    vae = AutoencoderKL.from_pretrained(SHAPES_MODEL / "vae").eval()
    with torch.no_grad():
        pictures = to_pictures(vae.decode(vae.encode(to_tensor(scenes)).latent_dist.mode()).sample)
    assert np.mean([shows(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]) >= 0.99
