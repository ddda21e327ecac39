"""A worker that torchrun or `accelerate launch` started."""

import os
import threading
import time


def end_with_launcher(every: float = 1.0) -> None:
    """End this process within `every` seconds of its launcher's end, as a kill of the launcher alone would leave it.

    Workers are in sessions of their own, and one that went on would keep the run's folder from the run that goes on.
    """
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, name="watch of the launcher", daemon=True).start()
