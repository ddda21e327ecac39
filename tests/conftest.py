"""Settings of every test: nothing is asked of the network, the cores are left to others, and Ctrl-C is heeded."""

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

torch.set_num_threads(1)

# Where pytest runs in the background it ignores Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
