import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from ip2p.training.pairs.candidates import SeedGroup
from ip2p.training.pairs.checkpoint import Base, load_base
from ip2p.training.pairs.render_settings import RenderSettings
from ip2p.training.pairs.renderer import Renderer
from pairs_models import base_pipeline, save_base, xl_pipeline
from pairs_plain import PlainState, plain_pair
from tiny_models import autoencoder, unet


def test_loads_a_folder(tmp_path):
    base = load_base(str(save_base(tmp_path / "base")))
    assert not base.is_xl and base.resolution == 64
    texts = base.encode(["", "a cat"])
    theirs, null = base_pipeline().encode_prompt("a cat", "cpu", 1, True, "")
    assert torch.equal(texts.embeds[0], null[0]) and torch.equal(texts.embeds[1], theirs[0])


def test_loads_sdxl_and_has_its_null_text(tmp_path):
    xl_pipeline().save_pretrained(tmp_path / "base")
    base = load_base(str(tmp_path / "base"))
    assert base.is_xl
    texts = base.encode(["", "a cat"])
    theirs, null, pooled, null_pooled = base.pipe.encode_prompt("a cat", device="cpu")
    assert torch.allclose(texts.embeds, torch.cat([null, theirs]), atol=1e-5)
    assert torch.allclose(texts.pooled, torch.cat([null_pooled, pooled]), atol=1e-5)
    assert base.added(texts, [1, 0], 64)["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


def test_another_autoencoder_takes_its_place(tmp_path):
    save_base(tmp_path / "base")
    torch.manual_seed(9)
    other = autoencoder()
    other.save_pretrained(tmp_path / "vae")
    base = load_base(str(tmp_path / "base"), vae=str(tmp_path / "vae"))
    assert torch.equal(base.pipe.vae.decoder.conv_in.weight, other.decoder.conv_in.weight)


def test_an_editor_is_refused(tmp_path):
    pipe = StableDiffusionPipeline(**{**base_pipeline().components, "unet": unet()}, requires_safety_checker=False)
    with pytest.raises(ValueError, match="takes 8 channels"):
        Base(pipe)
    pipe.save_pretrained(tmp_path / "editor")
    with pytest.raises(ValueError, match="text-to-image model"):
        load_base(str(tmp_path / "editor"))


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "none.safetensors"])
def test_what_is_not_there_is_told(name):
    with pytest.raises(FileNotFoundError, match="There is no model"):
        load_base(name)


def test_pickles_and_nonsense_are_refused(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"no \.safetensors file"):
        load_base(str(tmp_path / "model.ckpt"))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="can't be loaded"):
        load_base(str(tmp_path / "model.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="can't be loaded"):
        load_base(str(tmp_path / "empty"))


def test_pickled_weights_in_a_folder_are_not_read(tmp_path):
    folder = save_base(tmp_path / "base")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(base_pipeline().unet.state_dict(), weights.with_name("diffusion_pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(ValueError, match="can't be loaded"):
        load_base(str(folder))


@pytest.mark.slow
def test_stable_diffusion_15s_own_unet_is_drawn_with_as_plainly_said():
    """Random weights of the true configuration, 860 million parameters, at 64×64 pixels."""
    torch.manual_seed(0)
    widths = (320, 640, 1280, 1280)
    true = UNet2DConditionModel(sample_size=8, cross_attention_dim=32, attention_head_dim=8, block_out_channels=widths)
    parts = {**base_pipeline().components, "unet": true.eval()}
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    texts = ("a cat on a mat", "a bug on a mat")
    [made] = Renderer(Base(pipe), RenderSettings(steps=3)).draw(*texts, [SeedGroup(3, 7.5, (0.4,))])
    plain = plain_pair(pipe, texts, 3, 7.5, 0.4, 3, True, PlainState())
    assert float((made.pictures - plain).abs().max() / plain.abs().max()) < 1e-4
