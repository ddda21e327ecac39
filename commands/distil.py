"""`ip2p distil`: distillation as a command."""

from pathlib import Path

from .distil_settings import DistilCommandSettings
from .report import complain, note, say


def distil(settings: DistilCommandSettings) -> int:
    """Distil, and write what came of it. Gives the exit status."""
    from ..training.distill.run import distil as distil_editor
    from ..training.finetune.loop import StoppedError
    from .models import quiet

    quiet()
    try:
        written = distil_editor(settings, Path(settings.output or "distilled"), note)
    except StoppedError as stopped:
        complain(f"{stopped}: the same command goes on from there.")
        return 130
    for path in written:
        say(str(path))
    return 0
