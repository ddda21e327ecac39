"""Repositories that nobody should have to fetch, and what `ip2p hub pull` says of them."""

import base64
from dataclasses import dataclass, field

from hub_fixtures import HubHere

LORA = "pytorch_lora_weights.safetensors"


@dataclass
class Hostile:
    """A repository: its files, sizes that its Hub claims of them, another content that one arrives with; and a part of
    the sentence that refuses it."""

    files: dict[str, bytes]
    sentence: str
    sizes: dict[str, int] = field(default_factory=dict)
    arrives: tuple[str, bytes] | None = None
    kind: str = "model"

    def put(self, hub: HubHere) -> None:
        """Make it me/bad."""
        told = {path: base64.b64encode(content).decode() for path, content in self.files.items()}
        hub.post("/_hostile", {"kind": self.kind, "repo": "me/bad", "files": told, "sizes": self.sizes})
        if self.arrives is not None:
            name, content = self.arrives
            forged = {"content": told[name], "as": base64.b64encode(content).decode()}
            hub.post("/_falsify", forged)


def leaving(name: str) -> Hostile:
    return Hostile({name: b"{}", LORA: b"x"}, "would leave its folder")


HOSTILE = {
    "up": leaving("../outside.json"),
    "absolute": leaving("/etc/outside.json"),
    "up and down": leaving("unet/../../outside.json"),
    "backslash": leaving("a\\b.json"),
    "drive": leaving("c:x.json"),
    "nul": leaving("a\0.json"),
    "terminal": Hostile({"\x1b[2Junet.json": b"{}", LORA: b"x"}, "unprintable letters"),
    "larger than the disk": Hostile({LORA: b"x"}, "room for", sizes={LORA: 10**16}),
    "huge configuration": Hostile({"config.json": b"{}", LORA: b"x"}, "too large", sizes={"config.json": 10**9}),
    "other size": Hostile({LORA: b"x" * 100}, "did not arrive as the Hub has it", sizes={LORA: 50}),
    "other content": Hostile({LORA: b"as it was"}, "did not arrive as the Hub has it", arrives=(LORA, b"another!!")),
    "pickles": Hostile({"model_index.json": b"{}", "unet/diffusion_pytorch_model.bin": b"pickle"}, "a pickle, which"),
    "not whole": Hostile({"model_index.json": b"{}", "unet/model.safetensors": b"x"}, "names no unet"),
    "no index": Hostile({"model_index.json": b"[", "unet/model.safetensors": b"x"}, "damaged or cut short"),
    "index of nothing": Hostile({"model_index.json": b"[]", "unet/model.safetensors": b"x"}, "no index of a diffusers"),
    "index of half a part": Hostile({"model_index.json": b'{"unet": []}', "unet/a.safetensors": b"x"}, "no index of a"),
    "index of a null": Hostile({"model_index.json": b'{"unet": null}', "unet/a.safetensors": b"x"}, "names no unet"),
    "nothing": Hostile({"README.md": b"hello", "run.sh": b"rm -rf /"}, "no weights in safetensors"),
    "no Parquet": Hostile({"data.csv": b"a,b", "load.py": b"raise"}, "no Parquet files", kind="dataset"),
}
