"""What a batch holds is what the pipeline gives the U-Net at inference."""

from pathlib import Path

import pytest
import torch
from finetune_data import encoder, examples, settings, write_pairs
from ip2p.training.finetune.batches import Batches
from ip2p.training.finetune.draws import draw_dropped, draw_noise
from ip2p.training.finetune.material import Pictures
from ip2p.training.finetune.order import Order

CALL = {
    f"{prefix}{name}": None
    for prefix in ("", "negative_")
    for name in ("prompt", "prompt_2", "prompt_embeds", "pooled_prompt_embeds")
} | {"cross_attention_kwargs": None, "clip_skip": None, "negative_prompt_branches": ()}


@pytest.mark.parametrize("xl", [False, True], ids=["sd", "sdxl"])
def test_targets_conditions_and_what_is_dropped(xl: bool, tmp_path: Path) -> None:
    encodes = encoder(xl)
    pipe, device = encodes.pipe, torch.device("cpu")
    if xl:
        pipe.register_to_config(force_zeros_for_empty_prompt=True)
    given = settings(batch_size=16, drop_text=0.25, drop_image=0.25, drop_both=0.25, flip=0.0)
    material = Pictures(examples(write_pairs(tmp_path / "pairs.parquet", count=30)), encodes, given)
    order = Order(material.members, given.batch_size, given.seed)
    batches = Batches(material, order, given, device, scaling_factor=0.2, timesteps=1000)
    batch = next(batches.of_process(0, 0, 1))
    places = order.batch(0)
    samples, noise, timesteps = draw_noise([place.number for place in places], given.seed, (4, 8, 8), 1000, 1.0)
    assert torch.equal(batch.noise, noise) and torch.equal(batch.timesteps, timesteps)
    seen = set()
    for at, place in enumerate(places):
        pair, dropped = material.prepare(place), draw_dropped(place.number, given.seed, given)
        assert pair is not None
        seen.add(dropped)
        with torch.no_grad():
            before, after = (pipe.vae.encode(2 * each[None] - 1).latent_dist for each in (pair.before, pair.after))
            texts = pipe.encode_branches({**CALL, "prompt": pair.text}, device)
        wanted = (after.mean + after.std * samples[at]) * 0.2
        assert torch.allclose(batch.latents[at], wanted[0], atol=1e-5)
        mode = torch.zeros_like(before.mode()) if dropped.image else before.mode()
        assert torch.allclose(batch.condition[at], mode[0], atol=1e-5)
        text = texts["uncond" if dropped.text else "full"]
        assert torch.allclose(batch.text[at], text.embeds[0], atol=1e-5)
        if xl:
            assert text.pooled is not None and batch.pooled is not None
            assert torch.allclose(batch.pooled[at], text.pooled[0], atol=1e-5)
    assert len(seen) == 4
