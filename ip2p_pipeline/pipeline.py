"""The InstructPix2Pix pipeline for diffusers: an instruction edits a picture (Brooks et al. 2022, arXiv 2211.09800).

Self-contained with the files beside it, which it imports directly: published together in a model's repository, they
load with `DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo, trust_remote_code=True)`.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import is_invisible_watermark_available
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from .adapters import AdapterMixin
from .adaptive_stop import AdaptiveStop  # noqa: F401 - named here for the Hub's loader, as load_mask
from .batching import pair, per_row, rows, same_size
from .checks import as_settings, check_call, check_components, check_count, check_latents
from .conditions import Conditions
from .denoising import Watch, count_steps, denoise, last_steps, noised
from .distilled import check_distilled, check_distilled_call, guidance_class
from .guidance import AdaptiveProjection, Guidance
from .image_io import WHITE, as_output, to_pil
from .image_prompt import image_prompts
from .latents import decode, encode_mode, float32_where_needed, sample_from_mode
from .loading import SETTINGS, LoadingMixin
from .masks import load_mask  # noqa: F401 - named here for the Hub's loader, which fetches what this file imports
from .projections import text_projected_once
from .relevance import RelevanceMask, relevant_places
from .single_file import SingleFileMixin
from .sources import load_sources
from .text import TextMixin, check_text

logger = logging.getLogger(__name__)


class InstructPix2PixPipeline(
    LoadingMixin,
    AdapterMixin,
    TextMixin,
    DiffusionPipeline,
    StableDiffusionMixin,
    SingleFileMixin,
):
    """Edits pictures by instruction, with SD 1.x, SD 2.x and SDXL InstructPix2Pix checkpoints.

    `pipe("make it winter", picture).images[0]` is the edited picture, of the size it came in; for all else see
    `__call__`. With the same weights and settings it gives what diffusers' own InstructPix2Pix pipelines give.

    vae, text_encoder, tokenizer, unet, scheduler: as in diffusers' pipelines
    safety_checker, feature_extractor:             black out unsafe pictures; both may be None
    text_encoder_2, tokenizer_2:                   SDXL's second pair; None for SD
    image_encoder:                                 for IP-Adapters, or None
    requires_safety_checker:                       whether to warn when an SD checkpoint has no safety checker
    force_zeros_for_empty_prompt:                  SDXL: ∅ is zeros, not the encoding of ""
    add_watermarker:                               SDXL: an invisible watermark; None = if its package is installed
    is_cosxl_edit:                                 SDXL: the condition latent is scaled, as CosXL-Edit was trained
    default_…:                                     what the checkpoint's author recommends, for calls that don't say
    distilled_scales:                              the lowest and highest of each that a guidance-distilled U-Net learnt
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"
    _optional_components = [  # noqa: RUF012 - diffusers' own declaration
        "text_encoder",
        "tokenizer",
        "safety_checker",
        "feature_extractor",
        "text_encoder_2",
        "tokenizer_2",
        "image_encoder",
    ]
    _exclude_from_cpu_offload = ["safety_checker"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "prompt_embeds", "image_latents"]  # noqa: RUF012

    # No component has a default: for one that has, `DiffusionPipeline.from_pretrained` ignores what the user passes.
    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel | None,
        tokenizer: CLIPTokenizer | None,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        safety_checker: StableDiffusionSafetyChecker | None,
        feature_extractor: CLIPImageProcessor | None,
        text_encoder_2: CLIPTextModelWithProjection | None,
        tokenizer_2: CLIPTokenizer | None,
        image_encoder: CLIPVisionModelWithProjection | None,
        requires_safety_checker: bool = True,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        is_cosxl_edit: bool | None = False,
        default_guidance_scale: float | None = None,
        default_image_guidance_scale: float | None = None,
        default_num_inference_steps: int | None = None,
        distilled_scales: dict[str, Sequence[float]] | None = None,
    ) -> None:
        arguments = dict(locals())
        super().__init__()
        check_components(unet, vae, scheduler)
        check_distilled(unet, distilled_scales)
        check_text(tokenizer, text_encoder)
        check_text(tokenizer_2, text_encoder_2)
        if safety_checker is not None and feature_extractor is None:
            raise ValueError("The safety checker needs a feature_extractor: pass one, or safety_checker=None.")
        settings = {name: arguments[name] for name in SETTINGS}
        self.register_modules(**{k: v for k, v in arguments.items() if k in self._get_signature_keys(self)[0]})
        self.register_to_config(**settings)
        self.is_xl = unet.config.addition_embed_type == "text_time"  # SDXL's U-Net, which reads pooled text and sizes
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        if safety_checker is None and requires_safety_checker and not self.is_xl:
            logger.warning("This checkpoint has no safety checker: unsafe pictures are not blacked out.")
        self.watermark = None
        if self.is_xl and (is_invisible_watermark_available() if add_watermarker is None else add_watermarker):
            from diffusers.pipelines.stable_diffusion_xl.watermark import StableDiffusionXLWatermarker

            self.watermark = StableDiffusionXLWatermarker()

    @property
    def guidance_scale(self) -> Any:
        """s_T of the run, as given; a callback may set `_guidance_scale`."""
        return self._guidance_scale

    @property
    def image_guidance_scale(self) -> Any:
        """s_I of the run, likewise."""
        return self._image_guidance_scale

    @property
    def num_timesteps(self) -> int:
        """How many times the scheduler steps in this run."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the run stops after this step; a callback may set `_interrupt`."""
        return self._interrupt

    def recommended(self, name: Literal["num_inference_steps", "guidance_scale", "image_guidance_scale"]) -> Any:
        """What holds in a call that does not say: the checkpoint's own recommendation, else diffusers' default."""
        usual = {"num_inference_steps": 100, "guidance_scale": 5.0 if self.is_xl else 7.5, "image_guidance_scale": 1.5}
        own = self.config[f"default_{name}"]
        return usual[name] if own is None else own

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | Sequence[float] | None = None,
        image_guidance_scale: float | Sequence[float] | None = None,
        negative_prompt: str | list[str] | None = None,
        negative_prompt_branches: Sequence[str] = ("uncond", "image"),
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        resolution: int | None = None,
        fit: Literal["pad", "resize"] = "pad",
        mask_image: Any = None,
        mask_feather: float = 0.0,
        alpha: Literal["composite", "keep"] = "composite",
        background: Sequence[int] = WHITE,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        image_guidance_interval: tuple[float, float] = (0.0, 1.0),
        guidance_schedule: Literal["constant", "linear", "cosine"] = "constant",
        guidance_rescale: float = 0.0,
        adaptive_projection: bool | dict[str, float] | AdaptiveProjection | None = False,
        adaptive_stop: float | None = None,
        relevance_mask: bool | dict[str, Any] | RelevanceMask | None = False,
        strength: float = 1.0,
        timesteps: list[int] | None = None,
        sigmas: list[float] | None = None,
        eta: float = 0.0,
        latents: Tensor | None = None,
        image_latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        prompt_2: str | list[str] | None = None,
        negative_prompt_2: str | list[str] | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] = (0, 0),
        target_size: tuple[int, int] | None = None,
        clip_skip: int | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: list[Tensor] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        watch: Watch | None = None,
    ) -> StableDiffusionPipelineOutput | tuple[Any, list[bool] | None]:
        """Edit one picture or a batch.

        Prompt i edits image i; a single one of either goes with all of the other. With a list of generators, each
        picture of a batch is the one that its generator makes alone, also where sizes differ.

        prompt:                   the instruction or a list of them
        image:                    a path, PIL image, array or tensor in any mode and size, a batch, or a list, mixed
        num_inference_steps:      None = what the checkpoint recommends, else 100
        guidance_scale:           s_T >= 0, how much the instruction counts; one number, one per edit or one per row.
                                  None = what the checkpoint recommends, else 7.5 (SDXL 5.0)
        image_guidance_scale:     s_I >= 0, how much the input counts, likewise. None = the checkpoint's, else 1.5
        negative_prompt:          stands in for the empty text ∅, one for all or one per prompt
        negative_prompt_branches: where it does: in "uncond" e(∅,∅), in "image" e(c_I,∅), or both
        num_images_per_prompt:    results per edit, which stand together
        generator:                one for the whole batch, or a list of one per result
        resolution:               longest side in pixels at which the model works; None = the picture's own
        fit:                      how the model's multiple of pixels is met, by padding or by resizing
        mask_image:               white where the edit may happen; elsewhere the input's pixels come back. Of the
                                  picture's size; a list gives one per image
        mask_feather:             softens the mask's edge inwards, in pixels
        alpha:                    transparency: "composite" over `background` (RGB, 0..255), or "keep": the model sees
                                  that, the result gets the alpha and colours that look so over the background
        guidance_interval, image_guidance_interval, guidance_schedule, guidance_rescale: see `Guidance`
        adaptive_projection:      True, or a dict of `AdaptiveProjection`'s eta, norm_threshold and momentum
        adaptive_stop:            the cosine above which two branches count as one, such as 0.99: their guidance ends
        relevance_mask:           True, or a dict of `RelevanceMask`'s threshold, noise_level, against: as mask_image,
                                  where the model finds the instruction relevant
        strength:                 above 0, at most 1: the share of the steps that are run, beginning from the input
                                  noised to that level; 1 begins from noise alone (Meng et al. 2021, arXiv 2108.01073)
        timesteps, sigmas:        instead of num_inference_steps, where the scheduler takes them
        eta:                      DDIM's η, 0 to 1
        latents:                  the first noise, of unit variance, [rows, 4, h, w]
        image_latents:            instead of image: the posterior's mode, unscaled, [images, 4, h, w]
        prompt_embeds, pooled_prompt_embeds: instead of prompt, as `encode_prompt` gives them; negative_… likewise
        prompt_2, negative_prompt_2: what SDXL's second text encoder reads, if not the same
        original_size, crops_coords_top_left, target_size: SDXL's micro-conditioning, (height, width) and (top, left);
                                  None = the working size
        clip_skip:                text encoder layers to leave out, from the last
        ip_adapter_image:         one picture, or a list of pictures, for each loaded IP-Adapter
        ip_adapter_image_embeds:  instead, per adapter [3·n, pictures, …]: shown, hidden, hidden; n = 1 or the rows
        cross_attention_kwargs:   {"scale": …} is the LoRA scale, of the text encoders too
        output_type:              "pil"; "np" [rows,H,W,3] and "pt" [rows,3,H,W] in 0..1; "latent" [rows,4,h,w].
                                  A list instead of one array where sizes differ
        callback_on_step_end:     called as (pipeline, step, timestep, tensors), may return tensors to go on with
        watch:                    called after each step as (steps done, of how many, x0), for progress and previews:
                                  x0() gives the clean latents [rows,4,h,w] that the step predicted. It may raise to
                                  end the call, and changes nothing else, so it costs less than a callback

        Returns the images and, with a safety checker, which of them it blacked out. Raises ValueError or TypeError,
        in one sentence, for arguments without meaning.
        """
        # 1. Settings and checks
        call = dict(locals())
        for name in ("num_inference_steps", "guidance_scale", "image_guidance_scale"):
            if call[name] is None:
                call[name] = self.recommended(name)
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        call["callback_on_step_end_tensor_inputs"] = callback_on_step_end_tensor_inputs
        check_call(call, self._callback_tensor_inputs)
        check_distilled_call(self, call)
        self._interrupt = False
        device, dtype = self._execution_device, self.unet.dtype
        relevance = as_settings(RelevanceMask, "relevance_mask", relevance_mask)

        # 2. Pictures and masks, at the model's size
        sources = [] if image is None else load_sources(call, self.vae_scale_factor)

        # 3. Texts, of each branch
        texts = self.encode_branches(call, device)

        # 4. Rows, one for each result: its text and its picture. Those of one size run together
        inputs = [source.fitted for source in sources] if image_latents is None else list(image_latents)
        pairs = pair(len(texts["full"].embeds), len(inputs), num_images_per_prompt)
        if isinstance(generator, list):
            generator = per_row("generator", generator, len(pairs))
        if latents is not None:
            check_count("latents", latents, len(pairs))
        shown = image_prompts(self, ip_adapter_image, ip_adapter_image_embeds, device, len(pairs))
        results: dict[int, Tensor] = {}
        for group in same_size([tuple(inputs[i].shape[-2:]) for _, i in pairs]):
            texts_of, images_of = ([pairs[row][k] for row in group] for k in (0, 1))

            # 5. Timesteps and guidance
            self._guidance_scale, self._image_guidance_scale = call["guidance_scale"], call["image_guidance_scale"]
            steps, _ = retrieve_timesteps(self.scheduler, call["num_inference_steps"], device, timesteps, sigmas)
            steps = last_steps(self.scheduler, steps, strength)
            self._num_timesteps = len(steps)
            guidance = partial(self._guidance, call, group, len(pairs), count_steps(self.scheduler, steps))
            guidance()  # bad scales are told before the pictures are encoded

            # 6. The input's latents: as the U-Net reads them, and as the sampler would end at them
            if image_latents is None:
                distinct = sorted(set(images_of))
                with float32_where_needed(self.vae, self.is_xl):
                    mode = encode_mode(self.vae, torch.stack([inputs[i] for i in distinct]).to(device))
                mode = mode[[distinct.index(i) for i in images_of]]
            else:
                mode = torch.stack([inputs[i] for i in images_of]).to(device)
                check_latents("image_latents", mode, (len(group), self.vae.config.latent_channels, *mode.shape[-2:]))
            condition = mode * self.vae.config.scaling_factor if self.config.is_cosxl_edit else mode
            clean = sample_from_mode(self.vae, mode).to(dtype)
            keep = None
            if mask_image is not None:
                white: list[Any] = [sources[i].fitted_mask for i in images_of]
                keep = (F.adaptive_max_pool2d(torch.stack(white), mode.shape[-2:]).to(device, dtype), clean)

            # 7. Noise
            generators = [generator[row] for row in group] if isinstance(generator, list) else generator
            if latents is None:
                noise = randn_tensor(mode.shape, generator=generators, device=device, dtype=dtype)
            else:
                noise = rows(latents, group).to(device, dtype)
                check_latents("latents", noise, mode.shape)
            start = noise * self.scheduler.init_noise_sigma
            if strength < 1:
                start = noised(self.scheduler, clean, noise, steps[0])
            if self.interrupt:  # by a callback, in an earlier group: these pictures stay as they are
                start, steps = clean, steps[:0]

            # 8. Denoise
            height, width = (side * self.vae_scale_factor for side in mode.shape[-2:])
            time_ids = [*(original_size or (height, width)), *crops_coords_top_left, *(target_size or (height, width))]
            conditions = Conditions(
                {branch: rows(text.embeds, texts_of).to(device, dtype) for branch, text in texts.items()},
                condition.to(dtype),
                {b: rows(t.pooled, texts_of).to(device, dtype) for b, t in texts.items() if t.pooled is not None},
                torch.tensor([time_ids] * len(group), device=device, dtype=dtype),
                [{b: rows(e, group).to(device, dtype) for b, e in adapter.items()} for adapter in shown],
            )
            relevant = None
            if relevance is not None:
                asked = guidance().asked
                relevant = relevant_places(self, relevance, clean, noise, conditions, asked, cross_attention_kwargs)
                keep = (relevant if keep is None else relevant * keep[0], clean)
            accepted = inspect.signature(self.scheduler.step).parameters
            step_kwargs = {k: v for k, v in (("eta", eta), ("generator", generators)) if k in accepted}
            # A callback may change the weights between steps, as a LoRA's scale.
            with text_projected_once(self.unet) if callback_on_step_end is None else nullcontext():
                sampled = denoise(
                    self,
                    start,
                    noise,
                    conditions,
                    guidance,
                    steps,
                    keep=keep,
                    step_kwargs=step_kwargs,
                    cross_attention_kwargs=cross_attention_kwargs,
                    callback=callback_on_step_end,
                    callback_tensors=callback_on_step_end_tensor_inputs,
                    watch=watch,
                )

            # 9. Decode, back to each picture's own size, the input's pixels outside the mask
            if output_type == "latent":
                results.update(zip(group, sampled, strict=True))
                continue
            with float32_where_needed(self.vae, self.is_xl):
                edited = decode(self.vae, sampled)
            if self.watermark is not None:
                edited = self.watermark.apply_watermark(edited)
            edited = (edited / 2 + 0.5).clamp(0, 1).float().cpu()
            for k, (row, i) in enumerate(zip(group, images_of, strict=True)):
                where = None if relevant is None else relevant[k]
                results[row] = sources[i].finish(edited[k], where) if sources else edited[k]

        # 10. Safety, transparency, output
        images = [results[row] for row in range(len(pairs))]
        unsafe = None
        if self.safety_checker is not None and output_type != "latent":
            seen = self.feature_extractor([to_pil(rgb) for rgb in images], return_tensors="pt").pixel_values
            images, unsafe = self.safety_checker(images=images, clip_input=seen.to(device, self.safety_checker.dtype))
        alphas = [sources[i].alpha if sources else None for _, i in pairs]
        output = as_output(images, alphas, output_type)
        self.maybe_free_model_hooks()
        return StableDiffusionPipelineOutput(output, unsafe) if return_dict else (output, unsafe)

    def _guidance(self, call: dict[str, Any], group: list[int], row_count: int, steps: int) -> Guidance:
        """The guidance of the rows in `group`, at the scales that hold now."""
        scales = [
            [per_row(name, getattr(self, name), row_count, call["num_images_per_prompt"])[row] for row in group]
            for name in ("guidance_scale", "image_guidance_scale")
        ]
        return guidance_class(self)(
            *scales,
            batch_size=len(group),
            num_steps=steps,
            guidance_interval=call["guidance_interval"],
            image_guidance_interval=call["image_guidance_interval"],
            guidance_schedule=call["guidance_schedule"],
            guidance_rescale=call["guidance_rescale"],
            projection=as_settings(AdaptiveProjection, "adaptive_projection", call["adaptive_projection"]),
            adaptive_stop=call["adaptive_stop"],
        )
