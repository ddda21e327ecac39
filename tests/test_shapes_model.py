"""The model that the package ships."""

import random

import numpy as np
import torch
from diffusers import AutoencoderKL
from ip2p import SHAPES_MODEL
from ip2p.training.shapes.autoencoder import to_pictures, to_tensor
from ip2p.training.shapes.oracle import shows
from ip2p.training.shapes.scenes import random_scene
from test_shapes_ship import MOST_BYTES, size


def test_it_has_a_card_and_is_small():
    assert (SHAPES_MODEL / "README.md").is_file()
    assert size(SHAPES_MODEL) < MOST_BYTES


def test_the_oracle_reads_pictures_that_went_through_its_autoencoder():
    rng = random.Random("round trip")
    scenes = [random_scene(rng, held_out=bool(i % 2)) for i in range(300)]
    vae = AutoencoderKL.from_pretrained(SHAPES_MODEL / "vae").eval()
    with torch.no_grad():
        pictures = to_pictures(vae.decode(vae.encode(to_tensor(scenes)).latent_dist.mode()).sample)
    assert np.mean([shows(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]) >= 0.99
