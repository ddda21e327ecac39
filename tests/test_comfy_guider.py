"""The Guider node: the paper's formula, hooks that still work, and no branch computed in vain.

What ComfyUI itself computes with it needs a real one: see the second half.
"""

from typing import Any

import pytest
import torch
from comfy_host import COMFYUI, Host, a_host  # noqa: F401 - a fixture
from ip2p.comfy_nodes.guider import DualGuider, to_multiple
from torch import Tensor

X, SIGMA = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(2)
real = pytest.mark.skipif(COMFYUI is None, reason="needs a real ComfyUI at COMFYUI_PATH")


class Patcher:
    """As much of a ModelPatcher as a guider asks for."""

    model_options: dict[str, Any] = {}  # noqa: RUF012


def predictions(seed: int = 1) -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, 4, 8, 8, generator=noise) for name in ("positive", "middle", "negative")}


def guided(s_text: float, s_image: float, **options: Any) -> tuple[Tensor, list[str]]:
    """What the guider makes of three known predictions, and which it asked for."""
    guider = DualGuider(Patcher())
    guider.inner_model = None
    guider.conds = {name: [name] for name in ("positive", "middle", "negative")}
    guider.set_scales(s_text, s_image)
    asked: list[str] = []

    def calculate(told: dict[str, Any]) -> list[Tensor]:
        asked.extend(cond[0] for cond in told["conds"] if cond is not None)
        return [torch.full_like(X, 1e6) if cond is None else predictions()[cond[0]].clone() for cond in told["conds"]]

    return guider.predict_noise(X, SIGMA, {"sampler_calc_cond_batch_function": calculate, **options}), asked


def by_formula(s_text: float, s_image: float) -> Tensor:
    full, image, uncond = predictions().values()
    return uncond + s_image * (image - uncond) + s_text * (full - image)


@pytest.mark.parametrize(
    ("s_text", "s_image", "asked"),
    [
        (7.5, 1.5, ["positive", "middle", "negative"]),
        (7.5, 1.0, ["positive", "middle"]),
        (2.0, 2.0, ["positive", "negative"]),
        (1.0, 1.0, ["positive"]),
        (0.0, 1.5, ["middle", "negative"]),
        (0.0, 0.0, ["negative"]),
    ],
)
def test_the_formula_holds_and_no_branch_is_computed_in_vain(s_text: float, s_image: float, asked: list[str]) -> None:
    result, branches = guided(s_text, s_image)
    torch.testing.assert_close(result, by_formula(s_text, s_image), rtol=1e-5, atol=1e-5)
    assert branches == asked


def test_a_hook_before_guidance_may_change_what_is_guided() -> None:
    def halve(told: dict[str, Any]) -> list[Tensor]:
        assert told["cond_scale"] == 7.5 and len(told["conds_out"]) == 3
        return [each / 2 for each in told["conds_out"][:2]]  # as those that know only two predictions

    result, _ = guided(7.5, 1.5, sampler_pre_cfg_function=[halve])
    full, image, uncond = predictions().values()
    expected = uncond + 1.5 * (image / 2 - uncond) + 7.5 * (full / 2 - image / 2)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_hooks_after_guidance_see_and_change_the_result() -> None:
    def double(told: dict[str, Any]) -> Tensor:
        assert torch.equal(told["cond_denoised"], predictions()["positive"])
        assert torch.equal(told["input"], X)
        return told["denoised"] * 2

    result, _ = guided(7.5, 1.5, sampler_post_cfg_function=[double, double])
    torch.testing.assert_close(result, 4 * by_formula(7.5, 1.5), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [("sampler_pre_cfg_function", 3), ("sampler_post_cfg_function", 2), ("disable_cfg1_optimization", 3)],
)
def test_what_hooks_may_look_at_is_computed(kind: str, seen: int) -> None:
    keep = {"sampler_pre_cfg_function": lambda told: told["conds_out"]}
    keep |= {"sampler_post_cfg_function": lambda told: told["denoised"]}
    result, asked = guided(1.0, 1.0, **{kind: [keep[kind]] if kind in keep else True})
    torch.testing.assert_close(result, by_formula(1.0, 1.0), rtol=1e-5, atol=1e-5)
    assert asked == ["positive", "middle", "negative"][:seen]


def test_what_replaces_guidance_replaces_the_instructions_part() -> None:
    def as_usual(told: dict[str, Any]) -> Tensor:
        return told["uncond"] + told["cond_scale"] * (told["cond"] - told["uncond"])

    result, asked = guided(7.5, 1.0, sampler_cfg_function=as_usual)
    torch.testing.assert_close(result, by_formula(7.5, 1.0), rtol=1e-4, atol=1e-4)
    assert len(asked) == 3  # such a function may want any of them


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_scales_without_meaning_are_told(scale: float) -> None:
    for scales in ((scale, 1.5), (7.5, scale)):
        with pytest.raises(ValueError, match="at least 0"):
            guided(*scales)


def test_no_part_of_a_picture_is_cut_off() -> None:
    pixels = torch.rand(1, 20, 30, 3)
    padded = to_multiple(pixels, 8)
    assert padded.shape == (1, 24, 32, 3)
    assert torch.equal(padded[:, :20, :30], pixels)
    assert torch.equal(padded[:, 23, :30], pixels[:, 19])


class Encoder:
    """Stands for a VAE: eight pixels a latent on each side."""

    def encode(self, pixels: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small[:, :1]], dim=1) * 2 - 1


def tiny_model(in_channels: int = 8) -> Any:
    """ComfyUI's own InstructPix2Pix model of SD 1.5, of random weights and few channels, in a ModelPatcher."""
    import comfy.model_patcher
    import comfy.supported_models

    kind = comfy.supported_models.SD15_instructpix2pix if in_channels == 8 else comfy.supported_models.SD15
    config = kind(
        {
            "image_size": 32,
            "in_channels": in_channels,
            "out_channels": 4,
            "model_channels": 32,
            "num_res_blocks": [1, 1],
            "channel_mult": [1, 2],
            "num_head_channels": 8,
            "use_spatial_transformer": True,
            "transformer_depth": [1, 1],
            "transformer_depth_output": [1, 1, 1, 1],
            "transformer_depth_middle": 1,
            "context_dim": 16,
            "use_linear_in_transformer": False,
            "adm_in_channels": None,
            "use_temporal_attention": False,
            "legacy": False,
            "dtype": torch.float32,
        }
    )
    model = config.get_model({}, "", device="cpu")
    noise = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=noise) * 0.1
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def text(seed: int) -> list[Any]:
    return [[torch.randn(1, 77, 16, generator=torch.Generator().manual_seed(seed)), {}]]


PICTURE = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(3))


def sampled(guider: Any, latent: Tensor) -> tuple[Tensor, int]:
    """Five steps of Euler's, and how many rows the U-Net computed for them."""
    import comfy.samplers

    rows = []

    def count(apply: Any, told: dict[str, Any]) -> Tensor:
        rows.append(len(told["input"]))
        return apply(told["input"], told["timestep"], **told["c"])

    guider.model_options = {**guider.model_options, "model_function_wrapper": count}
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "normal", 5)
    with torch.inference_mode():
        result = guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, seed=1)
    return result, sum(rows)


def ours(host: Host, model: Any, s_text: float, s_image: float, **given: Any) -> tuple[Tensor, int]:
    conditioning = {"positive": text(1), "negative": text(2), **given}
    guider, latent = host.execute(
        "Ip2pGuider",
        model=model,
        **conditioning,
        vae=Encoder(),
        image=PICTURE,
        guidance_scale=s_text,
        image_guidance_scale=s_image,
    )
    return sampled(guider, latent["samples"])


def by_hand(model: Any, s_text: float, s_image: float, **given: Any) -> tuple[Tensor, int]:
    """ComfyUI's own nodes wired as the paper's formula asks for."""
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG
    from comfy_extras.nodes_ip2p import InstructPixToPixConditioning

    one, two = given.get("positive", text(1)), given.get("negative", text(2))
    positive, middle, latent = InstructPixToPixConditioning.execute(one, two, PICTURE, Encoder()).result
    guider = Guider_DualCFG(model)
    guider.set_conds(positive, middle, two)
    guider.set_cfg(s_text, s_image)
    return sampled(guider, latent["samples"])


@real
@pytest.mark.parametrize(
    ("s_text", "s_image", "rows", "by_hand_rows"),
    [(7.5, 1.5, 15, 15), (7.5, 1.0, 10, 10), (2.0, 2.0, 10, 15), (1.0, 1.0, 5, 5), (0.0, 1.5, 10, 15)],
)
def test_it_equals_comfyuis_guider_wired_by_hand(
    host: Host, s_text: float, s_image: float, rows: int, by_hand_rows: int
) -> None:
    result, computed = ours(host, tiny_model(), s_text, s_image)
    expected, computed_by_hand = by_hand(tiny_model(), s_text, s_image)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert (computed, computed_by_hand) == (rows, by_hand_rows)


@real
def test_patches_of_the_model_count(host: Host) -> None:
    plain, _ = ours(host, tiny_model(), 7.5, 1.5)
    patched = tiny_model()
    weight = patched.model.diffusion_model.out[2].weight
    patched.add_patches({"diffusion_model.out.2.weight": ("diff", (torch.ones_like(weight),))}, 0.1)
    assert not torch.allclose(ours(host, patched, 7.5, 1.5)[0], plain, atol=1e-3)
    rescaled = tiny_model()
    rescaled.set_model_sampler_post_cfg_function(lambda told: told["denoised"] * 0.5)
    assert not torch.allclose(ours(host, rescaled, 7.5, 1.5)[0], plain, atol=1e-3)


@real
def test_a_controlnet_on_the_conditioning_counts(host: Host) -> None:
    from comfy.controlnet import ControlBase

    class Push(ControlBase):
        """Stands for a ControlNet: adds to the middle of the U-Net."""

        def get_control(self, x: Tensor, *_: Any) -> dict[str, list[Tensor]]:
            return {"middle": [torch.full((len(x), 64, x.shape[2] // 2, x.shape[3] // 2), 3.0)]}

    def controlled(seed: int) -> list[Any]:
        return [
            [embedded, {**told, "control": Push(), "control_apply_to_uncond": False}] for embedded, told in text(seed)
        ]

    given = {"positive": controlled(1), "negative": controlled(2)}
    result, _ = ours(host, tiny_model(), 7.5, 1.5, **given)
    assert not torch.allclose(result, ours(host, tiny_model(), 7.5, 1.5)[0], atol=1e-2)
    torch.testing.assert_close(result, by_hand(tiny_model(), 7.5, 1.5, **given)[0], rtol=1e-5, atol=1e-5)


@real
def test_a_model_of_another_kind_is_refused(host: Host) -> None:
    with pytest.raises(ValueError, match="no InstructPix2Pix model"):
        ours(host, tiny_model(in_channels=4), 7.5, 1.5)
