"""Tiny models of the image stage, on disk."""

import pytest
import torch
from ip2p.training.shapes.clip import new_clip, save_weights
from pairs_models import save_base


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the tiny models are, as settings."""
    folder = tmp_path_factory.mktemp("pair-models")
    torch.manual_seed(0)
    clip, _ = new_clip(folder / "clip")
    save_weights(clip, folder / "clip")
    return {"model": str(save_base(folder / "base")), "clip_model": str(folder / "clip")}
