"""Settings of every test: nothing is asked of the network, and the cores are left to others."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

torch.set_num_threads(1)
