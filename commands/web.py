"""`ip2p web`: a page to try a model on, as a command."""

from importlib.util import find_spec

from ..hub.web.settings import WebSettings
from .report import say


def web(settings: WebSettings) -> int:
    """Serve the page until Ctrl-C. Gives the exit status."""
    if find_spec("gradio") is None:
        raise ValueError('The page needs Gradio: pip install "ip2p[web]".')
    from ..hub.web.server import serve
    from .models import quiet

    quiet()
    serve(settings, say)
    return 0
