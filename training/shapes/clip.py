"""A small CLIP of the shapes world in open_clip's own format, trained apart from everything else, to filter made pairs.

    python -m ip2p.training.shapes.clip --folder runs/clip

leaves `runs/clip/clip`, which `open_clip.create_model_and_transforms("local-dir:runs/clip/clip")` and
`open_clip.get_tokenizer` load, and prints how well it tells right edits from near misses.
"""

import json
import random
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from transformers import PreTrainedTokenizerFast

from .autoencoder import to_tensor
from .captions import ALL_CELLS, BACKGROUND_PHRASES, PLACE_PHRASES, SIZE_WORDS, caption, name, some_cells
from .edits import KINDS, change, random_edit
from .loop import Draw, Plan, train
from .scenes import BACKGROUNDS, CELLS, COLORS, SHAPES, SIZE, Scene, is_unambiguous, random_scene

GROUP = 8  # scenes of a batch that differ from one another by an edit or two
CONTEXT_LENGTH = 40  # tokens; the longest caption has 33 with its start and end


def vocabulary() -> list[str]:
    """The tokens by number: padding, unknown, start, every word of the captions, end.

    open_clip pools a text at its highest token number, so the end comes last.
    """
    phrases = [*PLACE_PHRASES, *BACKGROUND_PHRASES, *CELLS, *COLORS, *BACKGROUNDS, *SHAPES, "a an and ,"]
    phrases += [word for words in SIZE_WORDS.values() for word in words]
    words = sorted(set(re.findall(r"\w+|,", " ".join(phrases))))
    return ["<pad>", "<unk>", "<start>", *words, "<end>"]


def model_config() -> dict[str, Any]:
    """open_clip's configuration: a residual network, which learns edges from fewer pictures than a ViT, and a text
    transformer. The network's last grid is 2×2, as a scene's is."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": len(vocabulary()),
            "hf_tokenizer_name": "shapes",  # any name: from a folder, open_clip reads the tokenizer beside the weights
            "width": 96,
            "heads": 3,
            "layers": 2,
        },
    }


def new_clip(folder: Path) -> tuple[open_clip.CLIP, open_clip.tokenizer.HFTokenizer]:
    """Write the configuration and the tokenizer to `folder`; the untrained model and the tokenizer they describe."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = vocabulary()
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", len(tokens) - 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=CONTEXT_LENGTH,
    ).save_pretrained(folder)
    config = {"model_cfg": model_config(), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    return model, open_clip.get_tokenizer(f"local-dir:{folder}")


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write a model's weights beside its configuration, in half precision, under the name open_clip looks for."""
    weights = {key: (t.half() if t.is_floating_point() else t).contiguous() for key, t in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def told(scene: Scene, placed: Collection[int] = ALL_CELLS) -> tuple[str, list[tuple[str, ...]]]:
    """What the captions of a scene tell that place only the objects in some cells: scenes alike in it share them."""
    return scene.background, sorted((*name(t), CELLS[t.cell] if t.cell in placed else "") for t in scene.things)


def near_misses(
    scene: Scene, count: int, rng: random.Random, held_out: bool = False, placed: Collection[int] = ALL_CELLS
) -> list[Scene]:
    """Scenes one edit away from `scene`, no two with the same captions; with held-out combinations only where
    `held_out` allows them."""
    found: list[Scene] = []
    known = [told(scene, placed)]
    while len(found) < count:
        changed = change(rng.choice(KINDS), scene, rng)
        if changed is None or not is_unambiguous(changed[0]) or (changed[0].held_out and not held_out):
            continue
        if told(changed[0], placed) not in known:
            found.append(changed[0])
            known.append(told(changed[0], placed))
    return found


def soften(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """What a generator's pictures suffer, each picture [3, 64, 64] by its own random strengths: blur, lost detail,
    shifted colours, blotches and noise."""
    n = len(pixels)
    strength = torch.rand(n, 1, 1, 1, generator=generator)

    def amount(most: float, channels: int = 1) -> Tensor:
        return most * strength * torch.rand(n, channels, 1, 1, generator=generator)

    def noise(size: int) -> Tensor:
        return torch.randn(n, 3, size, size, generator=generator)

    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pixels = pixels.lerp(blurred, amount(1.0))
    coarse = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear")
    pixels = pixels.lerp(coarse, amount(1.0))
    pixels = pixels * (1 - amount(0.15, channels=3)) + amount(0.15, channels=3) - amount(0.15, channels=3)
    pixels = pixels + amount(0.15) * F.interpolate(noise(SIZE // 4), scale_factor=4, mode="bilinear")
    return pixels + amount(0.15) * noise(SIZE)


class Contrast(nn.Module):
    """CLIP's loss: each picture must pick its caption out of the batch's, and each caption its picture."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip
        self.loss = open_clip.ClipLoss()

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Loss of pictures [N, 3, 64, 64] in [-1, 1] and the tokens [N, context] of their captions."""
        image, text, scale = self.clip(pixels, tokens)
        return self.loss(image, text, scale.clamp(max=100))


def make_batch(draw: Draw, tokenizer: open_clip.tokenizer.HFTokenizer) -> tuple[Tensor, Tensor]:
    """Softened pictures and their captions' tokens, in groups of near misses, none with a held-out combination.

    Half of the groups leave places open, as captions that a picture is to be drawn for do.
    """
    rng = random.Random(draw.seed)
    scenes: list[Scene] = []
    captions: list[str] = []
    for _ in range(draw.count // GROUP):
        scene, placed = random_scene(rng), some_cells(rng)
        group = [scene, *near_misses(scene, GROUP - 1, rng, placed=placed)]
        scenes += group
        captions += [caption(each, rng, placed) for each in group]
    pixels = soften(to_tensor(scenes), draw.generator)
    return pixels.to(memory_format=torch.channels_last), tokenizer(captions)


def direction_similarity(image: Tensor, text: Tensor) -> Tensor:
    """Cosine between the change of pictures and of captions: features [2, N, d] before and after → [N].

    From StyleGAN-NADA (Gal et al. 2021), as InstructPix2Pix (Brooks et al. 2023) filters its pairs.
    """
    return F.cosine_similarity(image[1] - image[0], text[1] - text[0], dim=-1)


def trial(rng: random.Random, leave_open: bool) -> tuple[Scene, list[Scene], list[str]]:
    """A scene, eight scenes after it of which the first is the edit and the others near misses of it, and the captions
    of all nine, which tell every place or only those that the edit changes."""
    edit = random_edit(rng, held_out=True)
    placed = edit.cells if leave_open else ALL_CELLS
    near = near_misses(edit.target, GROUP, rng, held_out=True, placed=placed)
    # Not the edit undone: pictures that don't change have no direction.
    near = [scene for scene in near if told(scene, placed) != told(edit.source, placed)][: GROUP - 1]
    after = [edit.target, *near]
    return edit.source, after, [caption(scene, rng, placed) for scene in (edit.source, *after)]


@torch.no_grad()
def evaluate(folder: Path, count: int = 500) -> dict[str, float]:
    """Scores of the CLIP in `folder` on held-out edits, of pictures clean and softened, by captions that tell every
    place or leave some open.

    `direction`: how often the directional similarity of a right edit is above that of one with one thing wrong.
    `caption`: how often a picture's similarity to its caption is above that of a picture with one thing wrong.
    `retrieval`: how often a picture picks its caption out of itself and seven near misses.
    """
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    scores = {}
    for places in ("placed", "open"):
        rng = random.Random(f"evaluate clip/{places}")
        trials = [trial(rng, places == "open") for _ in range(count)]
        captions = [text for _, _, texts in trials for text in texts]
        texts = model.encode_text(tokenizer(captions), normalize=True).unflatten(0, (count, 1 + GROUP))
        for look in ("clean", "softened"):
            generator = torch.Generator().manual_seed(0)
            scenes = [scene for source, after, _ in trials for scene in (source, *after[:2])]
            pixels = soften(to_tensor(scenes), generator) if look == "softened" else to_tensor(scenes)
            source, right, wrong = model.encode_image(pixels, normalize=True).unflatten(0, (count, 3)).unbind(1)
            change = torch.stack([texts[:, 0], texts[:, 1]])
            good, bad = (direction_similarity(torch.stack([source, image]), change) for image in (right, wrong))
            fits, misses = ((image * texts[:, 1]).sum(dim=1) for image in (right, wrong))
            best = torch.einsum("nd,ngd->ng", right, texts[:, 1:]).argmax(dim=1)
            scores[f"direction {places} {look}"] = float((good[:, None] > bad).float().mean())
            scores[f"caption {places} {look}"] = float((fits[:, None] > misses).float().mean())
            scores[f"retrieval {places} {look}"] = float((best == 0).float().mean())
    return scores


@dataclass
class ClipSettings:
    """Train the shapes world's CLIP, and measure it."""

    folder: Path = Path("runs/clip")
    """Folder of the run; the result goes to its `clip`."""
    steps: int = 12_000
    """Optimizer steps."""
    batch_size: int = 64
    """Pictures a step, a multiple of 8."""
    learning_rate: float = 1.5e-3
    """Peak learning rate."""


def main(settings: ClipSettings) -> None:
    """Train, take the batch statistics of the averaged weights, save, and print the scores."""
    torch.manual_seed(0)
    result = settings.folder / "clip"
    clip, tokenizer = new_clip(result)
    clip.visual.to(memory_format=torch.channels_last)
    plan = Plan(settings.folder, settings.steps, settings.batch_size, settings.learning_rate)
    train(plan, Contrast(clip), lambda draw: make_batch(draw, tokenizer))
    draws = [Draw(i, settings.batch_size, i, torch.Generator().manual_seed(i)) for i in range(50)]
    update_bn((make_batch(draw, tokenizer)[0] for draw in draws), clip.visual)
    save_weights(clip, result)
    for title, score in evaluate(result).items():
        print(f"{title}: {score:.3f}")


if __name__ == "__main__":
    main(auto_cli(ClipSettings, as_positional=False))
