"""`ip2p train`: fine-tuning as a command."""

from pathlib import Path

from .report import complain, say
from .train_settings import TrainSettings


def train(settings: TrainSettings) -> int:
    """Fine-tune, and write what came of it. Gives the exit status."""
    from ..training.finetune.loop import StoppedError
    from ..training.finetune.run import finetune
    from .models import quiet

    quiet()
    folder = Path(settings.output or "run")
    try:
        written = finetune(settings, folder, complain)
    except StoppedError as stopped:
        complain(f"{stopped}: the same command goes on from there.")
        return 130
    for path in written:
        say(str(path))
    return 0
