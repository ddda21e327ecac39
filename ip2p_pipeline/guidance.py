"""Dual classifier-free guidance, as arithmetic on the predictions of three branches.

InstructPix2Pix (Brooks et al. 2022, arXiv 2211.09800, eq. 3) guides by the image c_I and by the instruction c_T:

    e = e(∅,∅) + s_I·(e(c_I,∅) − e(∅,∅)) + s_T·(e(c_I,c_T) − e(c_I,∅))
      = w_uncond·e(∅,∅) + w_image·e(c_I,∅) + w_full·e(c_I,c_T),   w = (1 − s_I, s_I − s_T, s_T), summing to 1.

A branch of weight zero cancels exactly, so it need not be computed. A scale of 1 is neutral: with both at 1 what
remains is the model's own conditional prediction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .adaptive_stop import AdaptiveStop

BRANCHES = ("full", "image", "uncond")
SCHEDULES = ("constant", "linear", "cosine")
PER_IMAGE = (1, 2, 3)  # the dimensions C, h, w of one image's prediction

Scale = float | Sequence[float] | Tensor


@dataclass(frozen=True)
class AdaptiveProjection:
    """Adaptive projected guidance, against oversaturation at high scales (Sadat et al. 2024, arXiv 2410.02416, alg. 1).

    eta:            share kept of a guidance difference's component parallel to the full prediction, 0 to 1
    norm_threshold: largest L2 norm of a difference over one latent (C, h, w), in x̂0's units; 0 = no clipping.
                    The norm grows with the square root of the latent's size: 7.5 at 4x64x64 (SD at 512 pixels) is
                    the paper's 15 at 4x128x128 (SDXL at 1024)
    momentum:       weight of the previous differences, above -1 and below 1; negative pushes away from them
    """

    eta: float = 0.0
    norm_threshold: float = 7.5
    momentum: float = -0.5

    def __post_init__(self) -> None:
        for name in ("eta", "norm_threshold", "momentum"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"projection's {name} must be a number, got {getattr(self, name)!r}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"projection's eta must be between 0 and 1, got {self.eta}.")
        if not 0 <= self.norm_threshold < math.inf:
            raise ValueError(f"projection's norm_threshold must be finite and at least 0, got {self.norm_threshold}.")
        if not -1 < self.momentum < 1:
            raise ValueError(f"projection's momentum must be above -1 and below 1, got {self.momentum}.")


class Guidance:
    """Dual classifier-free guidance for one run: `num_steps` steps over a batch of B images.

    guidance_scale:          s_T, the instruction's; any number >= 0, or one per image
    image_guidance_scale:    s_I, the image's; likewise
    guidance_interval:       (start, stop), fractions of the run, 0 <= start < stop <= 1: step i of n is guided by the
                             instruction where start <= i/n < stop; elsewhere s_T = 1 (Kynkäänniemi et al. 2024,
                             arXiv 2404.07724)
    image_guidance_interval: the same for s_I
    guidance_schedule:       "constant", or a "linear" or "cosine" ramp of both scales, see `ramp`
    guidance_rescale:        φ of Lin et al. 2023, arXiv 2305.08891, eq. 15-16; 0 (off) to 1
    projection:              adaptive projected guidance, or None. It holds back scales above 1; a scale below 1
                             interpolates, so it has nothing to hold back
    adaptive_stop:           the cosine of its two predictions at which a guidance ends (`AdaptiveStop`); None = never

    Each image's row depends on its own scales and predictions alone. Raises ValueError naming the argument at fault.
    """

    def __init__(
        self,
        guidance_scale: Scale,
        image_guidance_scale: Scale,
        *,
        batch_size: int,
        num_steps: int,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        image_guidance_interval: tuple[float, float] = (0.0, 1.0),
        guidance_schedule: str = "constant",
        guidance_rescale: float = 0.0,
        projection: AdaptiveProjection | None = None,
        adaptive_stop: float | None = None,
    ) -> None:
        if guidance_schedule not in SCHEDULES:
            raise ValueError(f"guidance_schedule must be one of {', '.join(SCHEDULES)}, got {guidance_schedule!r}.")
        if not (isinstance(guidance_rescale, int | float) and 0 <= guidance_rescale <= 1):
            raise ValueError(f"guidance_rescale must be between 0 and 1, got {guidance_rescale!r}.")
        s_text = check_scale("guidance_scale", guidance_scale, batch_size)
        s_image = check_scale("image_guidance_scale", image_guidance_scale, batch_size)
        text_steps = check_interval("guidance_interval", guidance_interval, num_steps)
        image_steps = check_interval("image_guidance_interval", image_guidance_interval, num_steps)

        self.asked = s_text, s_image  # each [B], wherever in the run they hold
        self.guidance_rescale = guidance_rescale
        # With nothing removed, clipped or remembered, projected guidance is plain guidance: keep that bit for bit.
        self.projection = None if projection == AdaptiveProjection(1.0, 0.0, 0.0) else projection
        self._s_text = scale_table(s_text, text_steps, num_steps, guidance_schedule)
        self._s_image = scale_table(s_image, image_steps, num_steps, guidance_schedule)
        self._averages: dict[str, Tensor] = {}  # projection's momentum, of all images
        self._stop = None if adaptive_stop is None else AdaptiveStop(adaptive_stop, batch_size)

    def after(self, earlier: "Guidance") -> "Guidance":
        """This guidance, going on with what an earlier one of the same run gathered: its momentum, what has ended."""
        self._averages, self._stop = earlier._averages, earlier._stop
        return self

    def scales(self, step: int) -> tuple[Tensor, Tensor]:
        """s_T and s_I at this step, each [B], float64 on the CPU."""
        s_text, s_image = self._s_text[step], self._s_image[step]
        if self._stop is None:
            return s_text, s_image
        return self._stop.scale("full", step, s_text), self._stop.scale("image", step, s_image)

    def weights(self, step: int) -> dict[str, Tensor]:
        """Each branch's weight at this step, [B]. They sum to 1."""
        s_text, s_image = self.scales(step)
        return {"full": s_text, "image": s_image - s_text, "uncond": 1 - s_image}

    def branches(self, step: int) -> tuple[str, ...]:
        """The branches to compute at this step, in the order of `BRANCHES`.

        Those with a weight for any image of the batch; besides, rescale is relative to `full`, and projection takes
        the differences of an image scale above 1 apart, so it needs all three.
        """
        if self.projection and (self.scales(step)[1] > 1).any():
            return BRANCHES
        weights = self.weights(step)
        return tuple(b for b in BRANCHES if weights[b].any() or (b == "full" and self.guidance_rescale > 0))

    def combine(
        self,
        step: int,
        predictions: dict[str, Tensor],
        sample: Tensor | None = None,
        alpha_bar: float | Tensor | None = None,
        prediction_type: str = "epsilon",
    ) -> Tensor:
        """The guided prediction at this step, [B, C, h, w] in the predictions' dtype.

        predictions:     at least `branches(step)`, each [B, C, h, w]; left as they are, but the result may be a view
        sample:          the scaled model input x = √ᾱ·x0 + √(1−ᾱ)·ε, [B, C, h, w]; only projection needs it
        alpha_bar:       ᾱ of this step, a number above 0 and below 1; likewise
        prediction_type: what the model predicts, "epsilon", "v_prediction" or "sample"; likewise

        With projection's momentum or an adaptive stop, call it in order, with momentum once a step.
        """
        scales = list(zip(*(s.tolist() for s in self.scales(step)), strict=True))
        if len(set(scales)) == 1:
            groups = [(slice(None), *scales[0])]
        else:  # one image at a time: a branch only a neighbour needs is not even touched (0·inf would be NaN)
            groups = [(slice(i, i + 1), *pair) for i, pair in enumerate(scales)]

        rows = []
        for images, s_text, s_image in groups:
            e = {branch: prediction[images] for branch, prediction in predictions.items()}
            if self.projection and max(s_text, s_image) > 1:
                if sample is None or alpha_bar is None:
                    raise ValueError("projection needs sample and alpha_bar: give both to combine().")
                c_x, c_e = x0_coefficients(prediction_type, float(alpha_bar))
                d_full = c_x * sample[images].float() + c_e * e["full"].float()
                guided = self._projected(self.projection, images, e, (s_text, s_image), d_full, c_e)
            else:
                guided = dual_guidance(e, s_text, s_image)
            if self.guidance_rescale > 0 and (s_text, s_image) != (1, 1):
                guided = rescale(guided, e["full"], self.guidance_rescale)
            rows.append(guided)
        if self._stop is not None:
            self._stop.observe(step, predictions, self.weights(step))
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _projected(
        self,
        p: AdaptiveProjection,
        images: slice,
        e: dict[str, Tensor],
        scales: tuple[float, float],
        d_full: Tensor,
        c_e: float,
    ) -> Tensor:
        """D_full + (s_T−1)·P(D_full − D_image) + (s_I−1)·P(D_image − D_uncond), mapped back from D = c_x·x + c_e·e."""
        guided = e["full"].float()
        for scale, on, off in zip(scales, ("full", "image"), ("image", "uncond"), strict=True):
            if scale == 1:
                continue
            difference = c_e * (e[on].float() - e[off].float())
            if scale > 1:
                if p.momentum != 0:
                    zeros = difference.new_zeros(self._s_text.shape[1], *difference.shape[1:])
                    average = self._averages.setdefault(on, zeros)[images]
                    difference = average.mul_(p.momentum).add_(difference)
                difference = project(difference, d_full, p.eta, p.norm_threshold)
            guided = guided + (scale - 1) / c_e * difference
        return guided.to(e["full"].dtype)


def dual_guidance(e: dict[str, Tensor], s_text: float, s_image: float) -> Tensor:
    """The module's formula for scales shared by all rows; branches of weight zero are not touched.

    By differences, not by weights: in half precision s·(a − b) loses far less than s·a − s·b.
    """
    if s_text == s_image:
        return interpolate(e, "uncond", "full", s_text)
    if s_image == 1:
        return interpolate(e, "image", "full", s_text)
    if s_text == 0:
        return interpolate(e, "uncond", "image", s_image)
    # The order of diffusers' stock pipelines, so that the result is theirs to the last bit.
    guided = (e["full"] - e["image"]).mul_(s_text).add_(e["uncond"])
    return guided.add_((e["image"] - e["uncond"]).mul_(s_image))


def interpolate(e: dict[str, Tensor], off: str, on: str, scale: float) -> Tensor:
    """e[off] + scale·(e[on] − e[off]); at 0 and 1 one of the two themselves."""
    if scale == 0:
        return e[off]
    if scale == 1:
        return e[on]
    return (e[on] - e[off]).mul_(scale).add_(e[off])


def project(difference: Tensor, d_full: Tensor, eta: float, norm_threshold: float) -> Tensor:
    """Clip each image's difference to the threshold, then keep `eta` of its component parallel to D_full."""
    if norm_threshold > 0:
        norm = torch.linalg.vector_norm(difference, dim=PER_IMAGE, keepdim=True)
        difference = difference * (norm_threshold / norm).clamp(max=1)
    unit = d_full / torch.linalg.vector_norm(d_full, dim=PER_IMAGE, keepdim=True)
    parallel = (difference * unit).sum(dim=PER_IMAGE, keepdim=True) * unit
    return difference - (1 - eta) * parallel


def rescale(guided: Tensor, full: Tensor, phi: float) -> Tensor:
    """Bring each image's standard deviation back towards the full prediction's (Lin et al. 2023, eq. 15-16)."""
    sigma_pos = full.float().std(dim=PER_IMAGE, keepdim=True)
    sigma_cfg = guided.float().std(dim=PER_IMAGE, keepdim=True)
    return (guided * (phi * sigma_pos / sigma_cfg + (1 - phi))).to(guided.dtype)


def x0_coefficients(prediction_type: str, alpha_bar: float) -> tuple[float, float]:
    """c_x and c_e of x̂0 = c_x·x + c_e·e, for a variance-preserving x = √ᾱ·x0 + √(1−ᾱ)·ε."""
    alpha, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    if prediction_type == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction_type == "v_prediction":
        return alpha, -sigma
    if prediction_type == "sample":
        return 0.0, 1.0
    raise ValueError(f"prediction_type must be epsilon, v_prediction or sample, got {prediction_type!r}.")


def ramp(schedule: str, n: int) -> Tensor:
    """The guidance over n steps, as multiples of the constant one, [n]: rising from 0 to 2, with a mean of 1.

    The increasing schedules of Wang et al. 2024, arXiv 2404.13040, which keep the mean. What is ramped is the guidance
    s − 1, since 1 is neutral: s(i) = 1 + (s − 1)·ramp(i), from no guidance on the noisiest step to 2·s − 1 on the last.
    """
    if schedule == "constant" or n == 1:
        return torch.ones(n, dtype=torch.float64)
    u = torch.linspace(0, 1, n, dtype=torch.float64)
    return 2 * u if schedule == "linear" else 1 - torch.cos(math.pi * u)


def scale_table(scale: Tensor, steps: range, num_steps: int, schedule: str) -> Tensor:
    """Each step's scale for each image, [num_steps, B]: 1 outside `steps`, ramped over them.

    A scale below 1 stays constant: it interpolates between two branches, and a ramp to 2·s − 1 would leave that range.
    """
    table = torch.ones(num_steps, len(scale), dtype=torch.float64)
    ramped = 1 + (scale - 1) * ramp(schedule, len(steps))[:, None]
    table[steps.start : steps.stop] = torch.where(scale > 1, ramped, scale)
    return table


def check_scale(name: str, value: Scale, batch_size: int) -> Tensor:
    """The scale of each image, [B] float64 on the CPU."""
    try:
        scale = torch.as_tensor(value, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be a number or one number per image, got {value!r}.") from None
    if scale.ndim > 1 or (scale.ndim == 1 and len(scale) != batch_size):
        raise ValueError(f"{name} must be a number or one per image ({batch_size}), got shape {tuple(scale.shape)}.")
    bad = scale[~(torch.isfinite(scale) & (scale >= 0))]
    if len(bad):
        raise ValueError(f"{name} must be finite and at least 0, got {bad[0].item()}.")
    return scale.expand(batch_size)


def check_interval(name: str, interval: tuple[float, float], num_steps: int) -> range:
    """The steps i of n with start <= i/n < stop."""
    if not (
        isinstance(interval, tuple | list)
        and len(interval) == 2
        and all(isinstance(end, int | float) for end in interval)
        and 0 <= interval[0] < interval[1] <= 1
    ):
        raise ValueError(f"{name} must be (start, stop) with 0 <= start < stop <= 1, got {interval}.")
    # Rounded first: 0.1 + 0.2 is meant as 0.3, and must not gain or lose a step by its last bit.
    start, stop = (math.ceil(round(fraction * num_steps, 6)) for fraction in interval)
    return range(start, stop)
