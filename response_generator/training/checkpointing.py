"""Checkpoints in a run folder: which are complete, which run they belong to, and how one is completed. No torch."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.errors import InputError
from response_generator.runs import atomic_files, weights
from response_generator.runs.run_folder import RunFolder

RUN_IDENTITY_FILE = "run.json"  # args, weights and data of its run; written last, so it marks a checkpoint as complete
REQUIRED_FILES = (
    "adapter_model.safetensors optimizer.pt scheduler.pt rng_state*.pth log_sums_*.json trainer_state.json"
).split()


def checkpoint_folder(run: str | Path, step: int) -> Path:
    return Path(run, f"checkpoint-{step}")


def parse_step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def missing_files(checkpoint: Path) -> list[str]:
    """Files that a checkpoint lacks to be resumed from."""
    return [name for name in (*REQUIRED_FILES, RUN_IDENTITY_FILE) if not any(checkpoint.glob(name))]


def name_log_sums_file(checkpoint: Path, process: int, world_size: int) -> Path:
    """Where each process keeps the sums for its next log line, see `resumption.LogSumsCallback`."""
    return checkpoint / f"log_sums_{process}-of-{world_size}.json"


def find_last_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run; None where there is none."""
    complete_ones = [folder for folder in run.glob("checkpoint-*") if not missing_files(folder)]
    return max(complete_ones, key=parse_step, default=None)


def find_next_step(run: Path) -> int:
    """The first step that a start of this run takes: the one after its last checkpoint."""
    checkpoint = find_last_checkpoint(run)
    return parse_step(checkpoint) + 1 if checkpoint else 0


def check_run_identity(run: RunFolder, run_identity: dict[str, Any]) -> None:
    """Compares the args, weights and data of the last checkpoint with those of this run. A checkpoint of an earlier
    version of this program does not name its weights.

    Raises:
        InputError: when the checkpoint belongs to another run.
    """
    checkpoint = find_last_checkpoint(run.path)
    if checkpoint is None:
        return
    written = strict_json.read_object(checkpoint / RUN_IDENTITY_FILE)
    weights_then, weights_now = written.get("weights", {}), run_identity.get("weights", {})
    changed = weights.find_changes(weights_then, weights_now, run.sources)
    if changed:
        raise InputError(*changed)
    written["arguments"] = run.translate(written["arguments"], weights_then)
    different = sorted(key for key in ("arguments", "data") if written.get(key) != run_identity[key])
    if different:
        raise InputError(
            f"output_dir: {checkpoint}: belongs to a run with other {' and '.join(different)}, so this run cannot be "
            f"resumed from it; name another folder"
        )


def find_incomplete(run: Path) -> list[Path]:
    """Checkpoints that are newer than the last complete one, so that they cannot be used; oldest first."""
    last = find_last_checkpoint(run)
    last_step = parse_step(last) if last else -1
    newer = [folder for folder in run.glob("checkpoint-*") if parse_step(folder) > last_step]
    return sorted(newer, key=parse_step)


def describe_incomplete(checkpoint: Path) -> str:
    missing = missing_files(checkpoint)
    if RUN_IDENTITY_FILE in missing:
        return f"{checkpoint.name}: writing it was interrupted; it is not used"
    return f"{checkpoint.name}: lacks {', '.join(missing)}; it is not used"


def remove_incomplete(run: Path) -> None:
    """Removes incomplete checkpoints, which a rotation would otherwise keep as the newest ones."""
    for folder in find_incomplete(run):
        shutil.rmtree(folder, ignore_errors=True)


def complete(checkpoint: Path, run_identity: dict[str, Any]) -> None:
    """Forces all files of a checkpoint to the disk, then marks it as complete. Either survives a power loss."""
    for file in checkpoint.rglob("*"):
        fsync(file)
    atomic_files.atomic_write(checkpoint / RUN_IDENTITY_FILE, json.dumps(run_identity).encode("utf-8"))
    fsync(checkpoint)
    fsync(checkpoint.parent)


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe_not_finite(name: str, value: float, args, state) -> str:
    """The message of a run that is stopped by NaN or infinity, from transformers' arguments and state."""
    return (
        f"step {state.global_step + 1}: the {name} is {value}; stopped before the adapter was changed. Usual causes: "
        f"learning_rate ({args.learning_rate:g}) is too high, or fp16 overflows (use bf16). Last good checkpoint: "
        f"{find_last_checkpoint(Path(args.output_dir)) or 'none'}"
    )
