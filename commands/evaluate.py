"""`ip2p evaluate`: how good an editor is, as a command."""

from ..training.evaluate.settings import EvaluateSettings
from .report import say


def evaluate(settings: EvaluateSettings) -> int:
    """Evaluate, and write the report. Gives the exit status."""
    from ..training.evaluate.run import evaluate as run
    from .models import quiet

    quiet()
    for path in run(settings):
        say(str(path))
    return 0
