"""The page's server: what is served, to whom, and until when."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from PIL import Image
from starlette.middleware import Middleware

from .limits import Rate
from .page import CSS, HEAD, PIXELS_A_MEGAPIXEL, Page
from .settings import WebSettings
from .visits import Visits

UPLOADS = 10  # files for each edit: the picture, what is painted, and both together, at every stroke


def serve(settings: WebSettings, say: Callable[[str], None]) -> None:
    """Load the model and serve its page until Ctrl-C. Raises ValueError, OSError or MemoryError in a sentence."""
    listening = listen(settings.host, settings.port)
    page = Page(settings)
    Image.MAX_IMAGE_PIXELS = int(settings.max_megapixels * PIXELS_A_MEGAPIXEL)  # twice that is not even opened
    port = listening.getsockname()[1]
    uploads, cache = Rate(settings.per_minute * UPLOADS), Path(gr.utils.get_upload_folder())
    app = gr.mount_gradio_app(
        FastAPI(middleware=[Middleware(Visits, cache=cache, uploads=uploads)], openapi_url=None),
        page.blocks(),
        path="/",
        server_name=settings.host,
        server_port=port,
        max_file_size=f"{settings.max_megabytes}mb",
        show_error=True,
        css=CSS,
        head=HEAD,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
    )
    # Kept longer than browsers and proxies keep a connection, so that none is closed just as it is used again.
    config = uvicorn.Config(app, log_level="error", timeout_keep_alive=120, timeout_graceful_shutdown=1)
    say(f"http://{'127.0.0.1' if settings.host == '0.0.0.0' else settings.host}:{port}")
    if settings.share:
        say(shared(port))
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """The place to serve at. Raises OSError where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"Nothing can be served at {host}:{port} ({error.strerror}): --port takes another, 0 a free one."
        ) from error


def shared(port: int) -> str:
    """An address that anyone reaches, by Gradio's tunnel."""
    try:
        return str(gr.networking.setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None))
    except Exception as error:
        raise ConnectionError("Gradio's tunnel can't be had (it needs the network): leave --share out.") from error
