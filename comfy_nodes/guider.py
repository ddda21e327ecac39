"""The node that guides ComfyUI's own samplers as InstructPix2Pix does."""

from typing import Any

import comfy.samplers
import torch
from comfy_api.latest import io
from torch import Tensor

from ..ip2p_pipeline.guidance import dual_guidance
from . import runtime
from .pictures import pictures_of

TEXT_HOOK = "sampler_cfg_function"


class Ip2pGuider(io.ComfyNode):
    """Dual guidance for SamplerCustomAdvanced."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p guider", "dual cfg", "instruct pix2pix guidance", "DualCFGGuider"],
            node_id="Ip2pGuider",
            display_name="InstructPix2Pix Guider",
            description="Dual guidance for ComfyUI's own samplers: wire `guider` and `latent` into "
            "SamplerCustomAdvanced. LoRAs, ControlNets and guidance patches of the model count.",
            inputs=[
                io.Model.Input("model", tooltip="An InstructPix2Pix checkpoint of 8 channels."),
                io.Conditioning.Input("positive", tooltip="The instruction, through CLIP Text Encode."),
                io.Conditioning.Input("negative", tooltip="An empty text, or what to avoid, through CLIP Text Encode."),
                io.Vae.Input("vae"),
                io.Image.Input("image", tooltip="The picture to edit."),
                io.Float.Input(
                    "guidance_scale",
                    default=7.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="s_T: how much the instruction counts.",
                ),
                io.Float.Input(
                    "image_guidance_scale",
                    default=1.5,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="s_I: how much the picture counts. At 1 a third of the work is saved.",
                ),
            ],
            outputs=[io.Guider.Output(), io.Latent.Output(tooltip="Empty, of the picture's size rounded up to 8.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list,
        negative: list,
        vae: Any,
        image: Tensor,
        guidance_scale: float,
        image_guidance_scale: float,
    ) -> Any:
        """Encode the picture, and set the guider up."""
        if not hasattr(model.model, "process_ip2p_image_in"):
            raise ValueError(
                f"This model is no InstructPix2Pix model ({type(model.model).__name__}): its U-Net takes no picture "
                "besides the noise. Load one, such as instruct-pix2pix-00-22000.safetensors."
            )
        pixels = torch.stack([picture[:3] for picture in pictures_of(image)]).movedim(1, -1)
        latent = vae.encode(to_multiple(pixels, 8))
        guider = DualGuider(model)
        guider.set_conds(positive, negative, latent)
        guider.set_scales(guidance_scale, image_guidance_scale)
        return io.NodeOutput(guider, {"samples": torch.zeros_like(latent)})


def to_multiple(pixels: Tensor, multiple: int) -> Tensor:
    """Pictures [B,H,W,3] with sides that are multiples, by repeating the last rows and columns; nothing is cut off."""
    height, width = (-side % multiple for side in pixels.shape[1:3])
    return torch.nn.functional.pad(pixels.movedim(-1, 1), (0, width, 0, height), mode="replicate").movedim(1, -1)


class DualGuider(comfy.samplers.CFGGuider):
    """ẽ = e(∅,∅) + s_I·(e(c_I,∅) − e(∅,∅)) + s_T·(e(c_I,c_T) − e(c_I,∅)) (Brooks et al. 2022, arXiv 2211.09800, eq. 3).

    Here of denoised pictures, to which the formula holds likewise, as its weights sum to 1. Branches of weight zero are
    not computed, unless a hook of the model may look at them.
    """

    def set_conds(self, positive: list, negative: list, image_latent: Tensor) -> None:
        """The texts, and the picture's latent, which the branch without conditions is not shown."""
        import node_helpers

        shown = {"concat_latent_image": image_latent}
        with_image = node_helpers.conditioning_set_values(negative, {**shown, "prompt_type": "negative"})
        without = [[text, {k: v for k, v in told.items() if k != "concat_latent_image"}] for text, told in negative]
        self.inner_set_conds(
            {
                "positive": node_helpers.conditioning_set_values(positive, shown),
                "middle": with_image,
                "negative": without,
            }
        )

    def set_scales(self, guidance_scale: float, image_guidance_scale: float) -> None:
        """s_T and s_I. Raises ValueError unless they are numbers of at least 0."""
        for name, value in (("guidance_scale", guidance_scale), ("image_guidance_scale", image_guidance_scale)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is a number of at least 0, not {value}.")
        self.s_text, self.s_image = guidance_scale, image_guidance_scale

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
    ) -> Tensor:
        """The guided denoised latents."""
        options = model_options or {}
        weights = {"positive": self.s_text, "middle": self.s_image - self.s_text, "negative": 1 - self.s_image}
        seen = seen_by_hooks(options)
        conds = [self.conds[name] if weight or name in seen else None for name, weight in weights.items()]
        out = calculate(self.inner_model, conds, x, timestep, options)
        for hook in options.get("sampler_pre_cfg_function", []):
            told = {"conds": conds, "conds_out": out, "cond_scale": self.s_text, "timestep": timestep, "input": x}
            changed = list(hook({**told, "sigma": timestep, "model": self.inner_model, "model_options": options}))
            out = changed + out[len(changed) :]  # most know only two predictions
        guided = self.combine(out, x, timestep, options)
        for hook in options.get("sampler_post_cfg_function", []):
            guided = hook(
                {
                    "denoised": guided,
                    "cond_denoised": out[0],
                    "uncond_denoised": out[1],
                    "cond": conds[0],
                    "uncond": conds[1],
                    "cond_scale": self.s_text,
                    "model": self.inner_model,
                    "sigma": timestep,
                    "model_options": options,
                    "input": x,
                }
            )
        return guided

    def combine(self, out: list[Tensor], x: Tensor, timestep: Tensor, options: dict[str, Any]) -> Tensor:
        """The formula; what replaces classifier-free guidance in ComfyUI replaces the instruction's part of it."""
        full, image, uncond = out
        if TEXT_HOOK in options:
            noise = {"cond": x - full, "uncond": x - image}
            denoised = {"cond_denoised": full, "uncond_denoised": image}
            told = {"cond_scale": self.s_text, "timestep": timestep, "sigma": timestep, "input": x}
            more = {"model": self.inner_model, "model_options": options}
            by_text = x - options[TEXT_HOOK]({**noise, **denoised, **told, **more})
            return by_text + (self.s_image - 1) * (image - uncond)
        return dual_guidance({"full": full, "image": image, "uncond": uncond}, self.s_text, self.s_image)


def seen_by_hooks(options: dict[str, Any]) -> tuple[str, ...]:
    """The branches that hooks of the model may look at, so that they are computed whatever they weigh."""
    if TEXT_HOOK in options or options.get("sampler_pre_cfg_function") or options.get("disable_cfg1_optimization"):
        return "positive", "middle", "negative"
    return ("positive", "middle") if options.get("sampler_post_cfg_function") else ()


def calculate(model: Any, conds: list, x: Tensor, timestep: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """The denoised latents of each branch, at once; ComfyUI's own way, or what a patch puts in its place."""
    own = options.get("sampler_calc_cond_batch_function")
    if own is not None:
        return list(own({"conds": conds, "input": x, "sigma": timestep, "model": model, "model_options": options}))
    return list(comfy.samplers.calc_cond_batch(model, conds, x, timestep, options))
