"""Settings of every test: nothing is asked of the network, the cores are left to others, and Ctrl-C is heeded."""

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

torch.set_num_threads(1)

# Where pytest runs in the background it ignores Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test cuts the power, and disks are slow.
os.fsync = lambda file: None

LONGEST = (
    "test_cli_recipe.py", "test_web_page.py", "test_finetune_processes.py", "test_pairs_shapes.py", "test_pairs_ray.py",
    "test_hub_load.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
