"""A pipeline's weights under the names of the original code (CompVis, Stability), as single files hold them."""

import re
from typing import Any

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def original(pipe: Any) -> dict[str, Tensor]:
    """The whole checkpoint."""
    unet = {unet_name(name, pipe.unet.config): part for name, part in pipe.unet.state_dict().items()}
    weights = {f"model.diffusion_model.{name}": part for name, part in unet.items()}
    ups = len(pipe.vae.config.block_out_channels)
    for name, part in pipe.vae.state_dict().items():
        # The original attention is made of 1x1 convolutions.
        linear = re.search(r"attentions\.0\.(to_|.*proj)", name) and part.ndim == 2
        weights[f"first_stage_model.{vae_name(name, ups)}"] = part[:, :, None, None] if linear else part
    first = "conditioner.embedders.0" if pipe.is_xl else "cond_stage_model"
    for name, part in pipe.text_encoder.state_dict().items():
        weights[f"{first}.transformer.text_model.{name.removeprefix('text_model.')}"] = part
    if pipe.is_xl:
        second = open_clip(pipe.text_encoder_2.state_dict())
        weights |= {f"conditioner.embedders.1.model.{name}": part for name, part in second.items()}
    return {name: part.contiguous().clone() for name, part in weights.items()}


def unet_name(name: str, config: Any) -> str:
    step = config.layers_per_block + 1
    for ours, theirs in UNET_TOP.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    side, rest = name.split(".", 1)
    if side == "mid_block":
        kind, i, rest = rest.split(".", 2)
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(i)}"
    else:
        block, kind, layer, rest = rest.split(".", 3)
        number, down = int(block) * step + int(layer), side == "down_blocks"
        attends = "CrossAttn" in (config.down_block_types if down else config.up_block_types)[int(block)]
        if kind == "downsamplers":
            place, rest = f"input_blocks.{(int(block) + 1) * step}.0", rest.replace("conv", "op")
        elif kind == "upsamplers":
            place = f"output_blocks.{int(block) * step + step - 1}.{1 + attends}"
        else:
            place = f"{f'input_blocks.{number + 1}' if down else f'output_blocks.{number}'}.{int(kind == 'attentions')}"
    if kind == "resnets":
        part, tail = rest.split(".", 1)
        rest = f"{RESNET[part]}.{tail}"
    return f"{place}.{rest}"


def vae_name(name: str, ups: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{ups - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{ups - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_norm_out", "norm_out")
    for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return name.replace("conv_shortcut", "nin_shortcut")


def open_clip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {name.removeprefix("text_model."): part for name, part in weights.items()}
    result = {
        "token_embedding.weight": weights["embeddings.token_embedding.weight"],
        "positional_embedding": weights["embeddings.position_embedding.weight"],
        "text_projection": weights["text_projection.weight"].T,
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names |= {"self_attn.out_proj": "attn.out_proj"}
    for kind in ("weight", "bias"):
        result[f"ln_final.{kind}"] = weights[f"final_layer_norm.{kind}"]
        layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layers.")})
        for i in range(layers):
            block = f"transformer.resblocks.{i}"
            ours = f"encoder.layers.{i}"
            qkv = [weights[f"{ours}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
            result[f"{block}.attn.in_proj_{kind}"] = torch.cat(qkv)
            result |= {f"{block}.{t}.{kind}": weights[f"{ours}.{o}.{kind}"] for o, t in names.items()}
    return result
