"""A pipeline's weights under the names of Stability AI's own layout, as ComfyUI and others load them from one file."""

import re
from typing import Any

import torch
from torch import Tensor

from .distilled import is_distilled

UNET = "model.diffusion_model."
VAE = "first_stage_model."
SD2_TEXT_WIDTH = 1024  # of OpenCLIP's ViT-H; SD 1.x has OpenAI's ViT-L, 768 wide

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE_BLOCKS = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "mid_block.resnets.0.": "middle_block.0.",
    "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".self_attn.out_proj.": ".attn.out_proj.",
}


def original_layout(pipe: Any) -> dict[str, Tensor]:
    """All weights of an SD 1.x, SD 2.x or SDXL pipeline, by their names in the original layout, and what it predicts,
    where that is the velocity.

    Raises ValueError for a distilled checkpoint, whose scales have no place there.
    """
    if is_distilled(pipe.unet):
        raise ValueError(
            "A distilled checkpoint takes both scales as inputs, for which neither the original layout nor ComfyUI's "
            "own loader has a place: keep it as a diffusers folder, and in ComfyUI use Load InstructPix2Pix."
        )
    tensors = unet_weights(pipe.unet) | vae_weights(pipe.vae) | told_by_keys(pipe.scheduler.config)
    if pipe.is_xl:
        tensors |= clip_weights(pipe.text_encoder, "conditioner.embedders.0.transformer.text_model.")
        return tensors | open_clip_weights(pipe.text_encoder_2, "conditioner.embedders.1.model.")
    if pipe.text_encoder.config.hidden_size == SD2_TEXT_WIDTH:
        return tensors | open_clip_weights(pipe.text_encoder, "cond_stage_model.model.")
    return tensors | clip_weights(pipe.text_encoder, "cond_stage_model.transformer.text_model.")


def unet_weights(unet: Any) -> dict[str, Tensor]:
    """The U-Net's, whose blocks the original counts through."""
    places = dict(OUTSIDE_BLOCKS)
    count = 1
    depth = len(unet.down_blocks)
    for block, part in enumerate(unet.down_blocks):
        for layer in range(len(part.resnets)):
            places[f"down_blocks.{block}.resnets.{layer}."] = f"input_blocks.{count}.0."
            places[f"down_blocks.{block}.attentions.{layer}."] = f"input_blocks.{count}.1."
            count += 1
        if block < depth - 1:
            places[f"down_blocks.{block}.downsamplers.0.conv."] = f"input_blocks.{count}.0.op."
            count += 1
    count = 0
    for block, part in enumerate(unet.up_blocks):
        for layer in range(len(part.resnets)):
            places[f"up_blocks.{block}.resnets.{layer}."] = f"output_blocks.{count}.0."
            places[f"up_blocks.{block}.attentions.{layer}."] = f"output_blocks.{count}.1."
            count += 1
        after = 2 if getattr(part, "attentions", None) else 1
        places[f"up_blocks.{block}.upsamplers.0.conv."] = f"output_blocks.{count - 1}.{after}.conv."
    tensors = {}
    for key, tensor in unet.state_dict().items():
        ours = next(place for place in places if key.startswith(place))
        rest = key.removeprefix(ours)
        if ".resnets." in ours:
            part, _, kind = rest.rpartition(".")
            rest = f"{RESNET[part]}.{kind}"
        tensors[UNET + places[ours] + rest] = tensor
    return tensors


def vae_weights(vae: Any) -> dict[str, Tensor]:
    """The autoencoder's, whose decoder the original counts from the picture."""
    last = len(vae.decoder.up_blocks) - 1
    tensors = {}
    for key, tensor in vae.state_dict().items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", key)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{last - int(m[1])}.block.", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{last - int(m[1])}.upsample.", name)
        name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", name)
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        attention = re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.*)\.(weight|bias)", name)
        if attention:
            place, part, kind = attention.groups()
            name = f"{place}mid.attn_1.{VAE_ATTENTION[part]}.{kind}"
            if tensor.ndim == 2:  # the original's are convolutions of one pixel
                tensor = tensor[..., None, None]
        tensors[VAE + name] = tensor
    return tensors


def clip_weights(text_encoder: Any, prefix: str) -> dict[str, Tensor]:
    """Those of a text encoder of OpenAI's, whose names stay."""
    return {prefix + key.removeprefix("text_model."): tensor for key, tensor in text_encoder.state_dict().items()}


def open_clip_weights(text_encoder: Any, prefix: str) -> dict[str, Tensor]:
    """Those of one of OpenCLIP's, which has queries, keys and values as one."""
    tensors = {}
    weights = text_encoder.state_dict()
    for key, tensor in weights.items():
        name = key.removeprefix("text_model.")
        if name == "text_projection.weight":
            tensors[prefix + "text_projection"] = tensor.T
            continue
        for ours, theirs in OPEN_CLIP.items():
            name = name.replace(ours, theirs)
        projection = re.fullmatch(r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
        if projection is None:
            tensors[prefix + name] = tensor
        elif projection[2] == "q":
            parts = [weights[key.replace("q_proj", f"{each}_proj")] for each in "qkv"]
            tensors[f"{prefix}{projection[1]}.attn.in_proj_{projection[3]}"] = torch.cat(parts)
    return tensors


def told_by_keys(config: Any) -> dict[str, Tensor]:
    """What a model with this scheduler predicts, as `from_single_file` reads it from the keys that are there, and of
    SDXL ComfyUI.
    """
    if config.get("prediction_type") != "v_prediction":
        return {}
    if "sigma_data" not in config:
        return {"v_pred": torch.tensor([])}
    return {f"edm_vpred.{end}": torch.tensor(float(config[end])) for end in ("sigma_max", "sigma_min")}
