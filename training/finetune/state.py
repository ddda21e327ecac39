"""What a stopped training goes on from, for one process, for several that hold the same, and for several that share.

state.safetensors                      of one process, or of several with the whole model each
state.json, state-00001000/0.safetensors …   with FSDP: each process's part, and which step is complete
state.json, state-00001000/…           with DeepSpeed: in its own format
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import DistributedType
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open

from ..checkpoints import load_checkpoint, save_checkpoint, write_tensors
from ..files import write_whole

if TYPE_CHECKING:
    from .loop import Training

WHOLE, INDEX = "state.safetensors", "state.json"
AVERAGES = "averages.safetensors"
SHARED_OUT = (DistributedType.FSDP, DistributedType.DEEPSPEED)


def has_state(folder: Path) -> bool:
    """Whether a run's folder has a state to go on from."""
    return any((folder / name).exists() for name in (WHOLE, INDEX))


def is_shared_out(training: "Training") -> bool:
    """Whether each process has only a part of the state."""
    return training.accelerator.distributed_type in SHARED_OUT


def save_state(training: "Training", notes: dict[str, str]) -> None:
    """Write the state in place of the one before, whole or not at all. Raises OSError where the disk is full."""
    accelerator = training.accelerator
    notes["batches"] = batches_told(training)
    content = training.parameters, training.ema, training.optimizer.optimizer, notes
    if not is_shared_out(training):
        if accelerator.is_main_process:
            save_checkpoint(training.folder / WHOLE, training.step, *content)
        accelerator.wait_for_everyone()
        return
    folder = training.folder / f"state-{training.step:08d}"
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        accelerator.save_state(str(folder))
        if accelerator.is_main_process and training.ema is not None:
            averages = {str(i): tensor for i, tensor in enumerate(training.ema.shadow_params)}
            write_tensors(folder / AVERAGES, averages, {"step": str(training.ema.optimization_step)})
    else:
        save_checkpoint(folder / f"{accelerator.process_index}.safetensors", training.step, *content)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        told = {
            "step": training.step,
            "processes": accelerator.num_processes,
            "by": accelerator.distributed_type.value,
            **notes,
        }
        write_whole(training.folder / INDEX, json.dumps(told).encode())
        for other in training.folder.glob("state-*"):
            if other != folder:
                shutil.rmtree(other)
    accelerator.wait_for_everyone()


def load_state(training: "Training") -> dict[str, str] | None:
    """Restore the state, and give its notes with `step` among them; None where there is none.

    Raises ValueError where it is damaged, of another model, or of processes that share the work in another way.
    """
    whole, index = training.folder / WHOLE, training.folder / INDEX
    told = json.loads(index.read_text()) if index.exists() else {}
    by = training.accelerator.distributed_type
    if whole.exists() if is_shared_out(training) else index.exists():
        earlier = told.get("by", "FSDP or DeepSpeed") if told else "processes with the whole model each"
        raise ValueError(f"{training.folder} was trained by {earlier}, not by {by.value}: go on so.")
    if not is_shared_out(training):
        if not whole.exists():
            return None
        notes = load_part(training, whole)
        check_batches(training, notes)
        return notes
    if not told:
        return None
    check_batches(training, told)
    if told.get("by", by.value) != by.value:
        raise ValueError(f"{training.folder} was trained by {told['by']}, not by {by.value}: go on so.")
    processes = training.accelerator.num_processes
    if told["processes"] != processes:
        raise ValueError(f"{training.folder} was trained by {told['processes']} processes, not {processes}: go on so.")
    folder = training.folder / f"state-{told['step']:08d}"
    if training.accelerator.distributed_type == DistributedType.DEEPSPEED:
        training.accelerator.load_state(str(folder))
        if training.ema is not None:
            load_averages(training.ema, folder / AVERAGES)
        return told
    return load_part(training, folder / f"{training.accelerator.process_index}.safetensors")


def batches_told(training: "Training") -> str:
    """How many batches a step has: processes times accumulated ones, or both where an average follows each batch."""
    processes, settings = training.accelerator.num_processes, training.settings
    if settings.ema_update == "batch":
        return f"{processes} × {settings.accumulation}"
    return str(processes * settings.accumulation)


def check_batches(training: "Training", notes: dict[str, str]) -> None:
    """Raise ValueError where the steps before had another number of batches."""
    earlier, told = notes.get("batches"), batches_told(training)
    if earlier not in (None, told):
        raise ValueError(
            f"{training.folder} was trained with {earlier} batches a step, not {told}: processes times --accumulation "
            "stays the same."
        )


def load_averages(ema: EMAModel, path: Path) -> None:
    """Restore the averages of the weights."""
    with safe_open(path, framework="pt") as file:
        ema.optimization_step = int(file.metadata()["step"])
        for i, tensor in enumerate(ema.shadow_params):
            tensor.copy_(file.get_tensor(str(i)))


def load_part(training: "Training", path: Path) -> dict[str, str]:
    """Restore what is in a file."""
    try:
        return load_checkpoint(path, training.parameters, training.ema, training.optimizer.optimizer)
    except (SafetensorError, RuntimeError, IndexError, KeyError) as error:
        raise ValueError(f"{path} is damaged or of another model: give another --output.") from error
