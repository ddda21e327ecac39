"""The text's keys and values: computed once a run, whoever attends, and left as they were found."""

import torch
from diffusers.models.attention_processor import Attention
from ip2p.ip2p_pipeline.projections import text_projected_once
from tiny_models import distance, edit, sd_pipeline


def projections(pipe) -> list[torch.nn.Linear]:
    layers = [m for m in pipe.unet.modules() if isinstance(m, Attention) and m.is_cross_attention]
    assert layers
    return [linear for layer in layers for linear in (layer.to_k, layer.to_v)]


def count(linear: torch.nn.Linear) -> list[torch.Tensor]:
    """What the layer projects from here on."""
    projected, forward = [], linear.forward

    def noting(text: torch.Tensor) -> torch.Tensor:
        projected.append(text)
        return forward(text)

    linear.forward = noting
    return projected


def test_keys_and_values_of_the_text_are_computed_once_a_run() -> None:
    pipe = sd_pipeline()
    counts = [count(linear) for linear in projections(pipe)]
    edit(pipe, num_inference_steps=6)
    assert [len(texts) for texts in counts] == [1] * len(counts)
    edit(pipe, "another", num_inference_steps=6)
    assert [len(texts) for texts in counts] == [2] * len(counts)


def test_they_are_computed_anew_where_the_branches_change() -> None:
    pipe = sd_pipeline()
    projected = count(projections(pipe)[0])
    edit(pipe, num_inference_steps=8, guidance_interval=(0.25, 0.75), image_guidance_interval=(0.25, 0.75))
    assert [len(text) for text in projected] == [1, 3, 1]


def test_the_picture_is_the_same_to_the_bit() -> None:
    pipe = sd_pipeline()
    assert distance(edit(pipe), edit(pipe, callback_on_step_end=lambda *_: {})) == 0


def test_a_callback_may_change_the_weights_between_steps() -> None:
    pipe = sd_pipeline()
    unchanged = edit(pipe)

    def double(pipe, step, timestep, tensors) -> dict:
        for linear in projections(pipe):
            linear.weight.data *= 2
        return {}

    projected = count(projections(pipe)[0])
    changed = edit(pipe, callback_on_step_end=double)
    assert len(projected) == 3
    assert distance(changed, unchanged) > 1e-3


def test_every_layer_is_left_as_it_was_found() -> None:
    pipe = sd_pipeline()
    first, *others = projections(pipe)
    own = first.forward = torch.nn.Identity().forward  # as offloading's
    try:
        with text_projected_once(pipe.unet):
            assert all("forward" in vars(linear) for linear in others)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert first.forward is own
    assert not any("forward" in vars(linear) for linear in others)


def test_a_compiled_unet_is_left_alone() -> None:
    pipe = sd_pipeline()
    pipe.unet.compile(backend="eager")
    with text_projected_once(pipe.unet):
        assert not any("forward" in vars(linear) for linear in projections(pipe))
