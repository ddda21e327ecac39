"""`ip2p evaluate`: how good an editor is, as a command."""

from ..training.evaluate.settings import EvaluateSettings
from .report import say


def evaluate(settings: EvaluateSettings) -> int:
    """Evaluate, and write the report. Gives the exit status."""
    from ..training.evaluate.run import evaluate as run
    from ..training.evaluate.run import foretold
    from .models import quiet

    quiet()
    for told in foretold(settings) if settings.dry_run else run(settings):
        say(str(told))
    return 0
