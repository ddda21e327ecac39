"""The web page of a model as a Space: our package, the page's program, and what it needs."""

import json
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..ip2p_pipeline.inside import INSIDE
from .settings import SpaceSettings

PACKAGE = Path(__file__).parent.parent
PARTS = ("commands", "comfy_nodes", "hub", "ip2p_pipeline", "training")
SUFFIXES = {".py", ".json", ".jsonl", ".safetensors", ".txt", ".yaml", ".md"}
UNUSED = ("training/shapes/base_model/",)  # draws pairs
SHAPES_CLIP = "training/shapes/clip_model/"

README = """---
title: {title}
emoji: ✏️
colorFrom: indigo
colorTo: green
sdk: gradio
sdk_version: {gradio}
app_file: app.py
pinned: false
license: apache-2.0
{models}---

Edit a picture by an instruction, with `{model}`. Made by `ip2p hub space`; the same page runs on your own machine:
`ip2p web --model {model}`.
"""

APP = '''"""The page of `ip2p web`."""

import os

# The Hub's proxy is on a private network, and is believed who visits.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "127.0.0.1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16")

from ip2p.hub.web.server import serve
from ip2p.hub.web.settings import WebSettings

serve(WebSettings(model={model}, host="0.0.0.0", port=int(os.environ.get("GRADIO_SERVER_PORT", 7860))), print)
'''


def stage_space(settings: SpaceSettings, aside: Path) -> dict[str, Path]:
    """Everything that the Space gets, by its path there; what is made for it lies in `aside`."""
    others = tuple(f"ip2p_pipeline/{path.name}/" for name, path in INSIDE.items() if name != settings.model)
    unused = UNUSED + others if settings.model in INSIDE else (*UNUSED, *others, SHAPES_CLIP)
    files = {}
    for path in [*PACKAGE.glob("*.py"), *(path for part in PARTS for path in (PACKAGE / part).rglob("*"))]:
        name = path.relative_to(PACKAGE).as_posix()
        if path.is_file() and path.suffix in SUFFIXES and not name.startswith(unused):
            files[f"ip2p/{name}"] = path
    if (PACKAGE / "LICENSE").is_file():
        files["LICENSE"] = PACKAGE / "LICENSE"
    models = "" if settings.model in INSIDE else f"suggested_hardware: t4-small\nmodels:\n- {settings.model}\n"
    title = json.dumps(f"Edit with {settings.model}")
    made = {
        "app.py": APP.format(model=json.dumps(settings.model)),
        "README.md": README.format(title=title, gradio=gradio_version(), models=models, model=settings.model),
        "requirements.txt": "".join(f"{line}\n" for line in requirements()),
    }
    for name, text in made.items():
        (aside / name).write_text(text, encoding="utf-8")
        files[name] = aside / name
    return dict(sorted(files.items()))


def requirements() -> list[str]:
    """What our package requires, without its extras; the Space's own SDK is Gradio."""
    try:
        told = requires("ip2p") or []
    except PackageNotFoundError:
        raise ValueError("A Space is made of an installed ip2p: pip install it first.") from None
    return [re.sub(r"\s", "", line) for line in told if "extra ==" not in line]


def gradio_version() -> str:
    """The version that is installed here, which the page is known to run with. Raises ValueError without one."""
    try:
        return version("gradio")
    except PackageNotFoundError:
        raise ValueError('The page needs Gradio: pip install "ip2p[web]".') from None
