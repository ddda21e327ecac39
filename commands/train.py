"""`ip2p train`: fine-tuning as a command."""

from pathlib import Path

from .report import complain, note, say
from .train_settings import TrainSettings


def train(settings: TrainSettings) -> int:
    """Fine-tune, and write what came of it. Gives the exit status."""
    from ..training.finetune.loop import StoppedError
    from ..training.finetune.run import finetune
    from .models import quiet

    quiet()
    if settings.dry_run:
        say(memory_told(settings))
        return 0
    folder = Path(settings.output or "run")
    try:
        written = finetune(settings, folder, note)
    except StoppedError as stopped:
        complain(f"{stopped}: the same command goes on from there.")
        return 130
    for path in written:
        say(str(path))
    return 0


def memory_told(settings: TrainSettings) -> str:
    """The memory that a training takes, as a table."""
    from ..training.finetune.memory import account

    rows = account(settings)
    rows["together, besides the framework's own"] = sum(rows.values())
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {count / 2**30:8.3f} GiB" for name, count in rows.items())
