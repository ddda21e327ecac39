"""Any picture in, the same size out: sizes, resolution, transparency, masks."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import SD_SCHEDULE, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
@pytest.mark.parametrize("size", [(1, 1), (7, 90), (61, 45), (64, 64), (200, 3)])
def test_the_same_size_comes_out(make, size: tuple[int, int]) -> None:
    pipe = make()
    image = picture(width=size[0], height=size[1])
    result = pipe("red", image, num_inference_steps=1, generator=noise()).images[0]
    assert result.size == size
    assert pipe("red", image, num_inference_steps=1, generator=noise(), fit="resize").images[0].size == size


def test_resolution_is_the_size_the_model_works_at() -> None:
    pipe = sd_pipeline()
    image = picture(width=64, height=48)
    latents = edit(pipe, image=image, resolution=32, output_type="latent")
    assert latents.shape == (1, 4, 6, 8)
    assert edit(pipe, image=image, resolution=32).shape == (1, 3, 48, 64)
    assert edit(pipe, image=image, output_type="latent").shape == (1, 4, 12, 16)


def test_sdxl_reads_the_working_size() -> None:
    pipe = sdxl_pipeline()
    explicit = edit(pipe, image=picture(width=64, height=48), original_size=(48, 64), target_size=(48, 64))
    assert torch.equal(explicit, edit(pipe, image=picture(width=64, height=48)))


def test_every_input_type_gives_the_same_edit() -> None:
    pipe = sd_pipeline()
    image = picture()
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    want = edit(pipe, image=image)
    for same in (array, array / 255.0, array[None], [array], tensor, tensor / 255, tensor / 127.5 - 1, tensor[None]):
        assert distance(edit(pipe, image=same), want) < CLOSE


def test_output_types_hold_the_same_picture() -> None:
    pipe = sd_pipeline()
    odd = picture(width=50, height=30)
    pil = edit(pipe, image=odd, output_type="pil")[0]
    array = edit(pipe, image=odd, output_type="np")
    tensor = edit(pipe, image=odd, output_type="pt")
    assert array.shape == (1, 30, 50, 3)
    assert np.array_equal(np.asarray(pil), (array[0] * 255).round().astype(np.uint8))
    assert np.array_equal(array[0], tensor[0].permute(1, 2, 0).numpy())


def alpha_picture(seed: int = 0, width: int = 64, height: int = 64) -> Image.Image:
    rgba = picture(seed, width, height).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize((width, height)))
    return rgba


def test_transparency_is_composited_or_kept() -> None:
    pipe = sd_pipeline()
    rgba = alpha_picture()
    red = Image.new("RGBA", rgba.size, "red")
    red.alpha_composite(rgba)
    composited = edit(pipe, image=rgba, background=(255, 0, 0))
    assert distance(composited, edit(pipe, image=red.convert("RGB"))) < 0.05  # Pillow composites in 8 bits
    kept = edit(pipe, image=rgba, alpha="keep", output_type="pil")[0]
    assert kept.mode == "RGBA"
    assert np.array_equal(np.asarray(kept)[..., 3], np.asarray(rgba)[..., 3])
    assert edit(pipe, image=rgba, alpha="keep").shape == (1, 4, 64, 64)
    assert edit(pipe, alpha="keep", output_type="pil")[0].mode == "RGB"


def half_mask(width: int = 64, height: int = 64) -> Image.Image:
    """White on the right half: edit there."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (width // 2, 0, width, height))
    return mask


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_outside_the_mask_the_pixels_come_back_exactly(make) -> None:
    pipe = make()
    image = picture(width=61, height=45)
    result = edit(pipe, image=image, mask_image=half_mask(61, 45), mask_feather=3, output_type="pil", resolution=40)[0]
    before, after = np.asarray(image), np.asarray(result)
    assert np.array_equal(before[:, :30], after[:, :30])
    assert not np.array_equal(before[:, 45:], after[:, 45:])


def test_mask_and_transparency_together() -> None:
    pipe = sd_pipeline()
    rgba = alpha_picture()
    result = np.asarray(edit(pipe, image=rgba, mask_image=half_mask(), alpha="keep", output_type="pil")[0])
    assert np.array_equal(result[..., 3], np.asarray(rgba)[..., 3])
    assert np.array_equal(result[:, :32], np.asarray(rgba)[:, :32])
    assert not np.array_equal(result[:, 32:], np.asarray(rgba)[:, 32:])


def test_kept_transparency_shows_the_edit_over_the_background() -> None:
    """Outside what no colour can show, the transparent edit over the background is the composited edit."""
    pipe = sd_pipeline()
    rgba, background = alpha_picture(), (40, 90, 140)
    kept = edit(pipe, image=rgba, alpha="keep", background=background)[0]
    composited = edit(pipe, image=rgba, background=background)[0]
    colours, alpha = kept[:3], kept[3]
    shown = colours * alpha + torch.tensor(background)[:, None, None] / 255 * (1 - alpha)
    inside = (colours > 0) & (colours < 1)
    assert inside.float().mean() > 0.3
    assert (shown - composited)[inside].abs().max() < 1e-5


ALL_KINDS = "DDIM DDPM PNDM LCM EulerDiscrete EulerAncestralDiscrete HeunDiscrete KDPM2Discrete DPMSolverMultistep"


@pytest.mark.parametrize("name", [*ALL_KINDS.split(), "UniPCMultistep"])
def test_latents_outside_the_mask_end_as_the_input_s(name: str) -> None:
    pipe = sd_pipeline()
    pipe.scheduler = getattr(diffusers, f"{name}Scheduler")(**SD_SCHEDULE)
    start = torch.randn(1, 4, 16, 16, generator=noise(3))
    call = {"mask_image": half_mask(), "latents": start, "num_inference_steps": 6}
    final = edit(pipe, output_type="latent", **call)
    rgb = torch.from_numpy(np.asarray(picture()).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        clean = pipe.vae.encode(rgb).latent_dist.mode() * pipe.vae.config.scaling_factor
    outside = (..., slice(0, 7))
    assert distance(final[outside], clean[outside]) < CLOSE
    assert distance(final, edit(pipe, output_type="latent", **{**call, "mask_image": None})) > 0.01


def test_a_white_mask_changes_nothing_and_noise_is_not_drawn_for_a_mask() -> None:
    pipe = sd_pipeline()
    white = Image.new("L", (64, 64), 255)
    assert torch.equal(edit(pipe, mask_image=white), edit(pipe))
    generator = noise()
    edit(pipe, mask_image=half_mask(), generator=generator)
    plain = noise()
    edit(pipe, generator=plain)
    assert torch.equal(generator.get_state(), plain.get_state())


@pytest.mark.parametrize("masked", [[True, False], [True, False, True], [False, False]])
def test_none_in_a_list_of_masks_edits_everywhere(masked: list[bool]) -> None:
    """Of one size, so that they run together."""
    pipe = sd_pipeline()
    images, seeds = [picture(i) for i in range(len(masked))], range(len(masked))
    masks = [half_mask() if each else None for each in masked]
    batch = edit(pipe, "red", images, mask_image=masks, generator=[noise(seed) for seed in seeds])
    for i in seeds:
        alone = edit(pipe, "red", images[i], mask_image=masks[i], generator=noise(i))[0]
        assert distance(batch[i], alone) < CLOSE


def test_each_image_of_a_batch_may_have_its_own_mask() -> None:
    pipe = sd_pipeline()
    images = [picture(1), picture(2, 40, 48)]
    masks = [half_mask(), half_mask(40, 48)]
    batch = edit(pipe, "red", images, mask_image=masks, generator=[noise(1), noise(2)])
    alone = edit(pipe, "red", images[1], mask_image=masks[1], generator=noise(2))
    assert distance(batch[1], alone[0]) < CLOSE
