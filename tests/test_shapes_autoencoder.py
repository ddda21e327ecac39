import pytest
import torch
from ip2p.training.shapes.autoencoder import Restoration, equalize, faintness, make_batch, new_autoencoder, to_tensor
from ip2p.training.shapes.loop import Draw
from ip2p.training.shapes.scenes import Thing, make_scene


@torch.no_grad()
def test_equalized_latents_are_alike_and_give_the_same_pictures():
    torch.manual_seed(0)
    vae = new_autoencoder().eval()
    vae.quant_conv.weight[:4] *= torch.tensor([1.0, 3.0, 0.2, 5.0])[:, None, None, None]
    pictures = torch.rand(8, 3, 64, 64) * 2 - 1
    before = vae.encode(pictures).latent_dist
    decoded = vae.decode(before.mean).sample
    equalize(vae, before.mean)
    after = vae.encode(pictures).latent_dist
    assert torch.allclose(vae.decode(after.mean).sample, decoded, atol=1e-4)
    spread = (after.mean * vae.config.scaling_factor).std(dim=(0, 2, 3))
    assert torch.allclose(spread, torch.ones(4), atol=1e-3)
    assert after.mean.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    noise_share = before.std / before.mean.std(dim=(0, 2, 3), keepdim=True)
    assert torch.allclose(after.std / after.mean.std(dim=(0, 2, 3), keepdim=True), noise_share, rtol=1e-3)


def test_a_decoder_trained_further_leaves_the_latents_as_they_are():
    torch.manual_seed(0)
    vae = new_autoencoder()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    draw = Draw(0, 4, 0, torch.Generator().manual_seed(0))
    model = Restoration(vae)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(8):
        loss = model(*make_batch(draw))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    changed = {name.split(".")[0] for name, tensor in vae.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_a_faint_object_counts_as_much_more_as_it_contrasts_less():
    scene = make_scene("brown", [Thing("cross", "red", "large", 0, 0, 0), Thing("cross", "yellow", "large", 3, 0, 0)])
    pixels = to_tensor([scene])
    weight = faintness(pixels)
    faint, contrasting = weight[0, 0, :32, :32], weight[0, 0, 32:, 32:]
    assert weight.shape == (1, 1, 64, 64)
    assert faint.unique().numel() == contrasting.unique().numel() == 1
    contrasts = [float((pixels[0, :, y, x] - pixels[0, :, 0, 0]).abs().mean()) for y, x in ((16, 16), (48, 48))]
    assert float(faint[0, 0] / contrasting[0, 0]) == pytest.approx(contrasts[1] / contrasts[0], rel=0.1)
