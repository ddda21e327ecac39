"""The settings of `ip2p web`. Nothing heavy is imported here."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class WebSettings:
    """Settings of `ip2p web`."""

    model: str = "shapes"
    """"shapes", "shapes-few", a Hub id, a diffusers folder or a .safetensors file."""
    device: str | None = None
    """Where to compute, such as cuda or cpu. Default: the best there is."""
    dtype: str | None = None
    """Precision of the weights: float32, float16 or bfloat16; a CPU without bfloat16 takes float32 instead. Default:
    float16, on the CPU float32."""
    clip_model: str | None = None
    """The CLIP model that ranks "best of". Default: ViT-L-14, with shapes the one inside this package."""
    host: str = "127.0.0.1"
    """The address to serve at; 0.0.0.0 lets other machines in."""
    port: int = 7860
    """The port to serve at; 0 takes a free one."""
    share: bool = False
    """Let anyone in, through a tunnel of Gradio's."""
    max_megapixels: float = 16.0
    """Largest picture that is taken."""
    max_megabytes: int = 20
    """Largest file that is taken."""
    max_steps: int = 100
    """Most steps that a visitor can ask for."""
    max_tries: int = 16
    """Most edits in a grid or a "best of"."""
    max_seconds: int = 600
    """Longest time of one request; what takes longer is stopped."""
    queue: int = 64
    """Most requests that wait; further ones are asked to come back."""
    per_minute: int = 30
    """Most requests of one visitor in a minute."""

    def __post_init__(self) -> None:
        for name in ("max_megapixels", "max_megabytes", "max_steps", "max_tries", "max_seconds", "queue", "per_minute"):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name.replace('_', '-')} is above 0, not {getattr(self, name)}.")
        if not 0 <= self.port < 65536:
            raise ValueError(f"--port is from 0 to 65535, not {self.port}.")
