"""Checkpoints on disk: complete or absent. One is written aside, forced to the disk, and renamed when it is whole."""

import os
import shutil
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.errors import InputError

STAGING_DIR = "unfinished"  # holds the checkpoint that is being written
RUN_IDENTITY_FILE = "run.json"  # in each checkpoint: the arguments and the data of the run that it belongs to
REQUIRED_FILES = (
    "adapter_model.safetensors optimizer.pt scheduler.pt rng_state*.pth log_sums_*.json trainer_state.json".split()
)


def parse_step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def missing_files(checkpoint: Path) -> list[str]:
    """Files without which nothing goes on from here."""
    return [name for name in REQUIRED_FILES if not any(checkpoint.glob(name))]


def name_log_sums_file(checkpoint: Path, process: int, of: int) -> Path:
    """Where one of several processes keeps what it has summed up for the next log line."""
    return checkpoint / f"log_sums_{process}-of-{of}.json"


def find_last_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run; None where there is none."""
    complete = [folder for folder in run.glob("checkpoint-*") if not missing_files(folder)]
    return max(complete, key=parse_step, default=None)


def check_run_identity(run: Path, run_identity: dict[str, Any]) -> None:
    """Compares what the last checkpoint of a folder says of its run with this run's arguments and data.

    Raises:
        InputError: when it belongs to another run, or does not say.
    """
    checkpoint = find_last_checkpoint(run)
    if checkpoint is None:
        return
    file = checkpoint / RUN_IDENTITY_FILE
    written = strict_json.read_object(file) if file.is_file() else {}
    different = sorted(key for key in run_identity if written.get(key) != run_identity[key])
    if different:
        raise InputError(
            f"output_dir: {checkpoint}: belongs to a run with other {' and '.join(different)}, and cannot be resumed "
            f"from; name another folder"
        )


def describe_unusable(run: Path) -> list[str]:
    """A line for each checkpoint newer than the last complete one that cannot be used, and why."""
    newest = find_last_checkpoint(run)
    known = parse_step(newest) if newest else -1
    cut_off = [
        f"{folder.name} was cut off in the middle of its write" for folder in (run / STAGING_DIR).glob("checkpoint-*")
    ]
    damaged = [
        f"{folder.name} lacks {', '.join(missing_files(folder))}"
        for folder in sorted(run.glob("checkpoint-*"), key=parse_step)
        if parse_step(folder) > known
    ]
    return [f"{message}; passed over" for message in cut_off + damaged]


def remove_incomplete(run: Path) -> None:
    """Removes what `describe_unusable` tells of; a rotation would take a damaged one for the newest, and keep that."""
    newest = find_last_checkpoint(run)
    shutil.rmtree(run / STAGING_DIR, ignore_errors=True)
    for folder in run.glob("checkpoint-*"):
        if newest is None or parse_step(folder) > parse_step(newest):
            shutil.rmtree(folder, ignore_errors=True)


def publish(part: Path, final: Path) -> None:
    """Makes a checkpoint that is wholly written appear under its name, in one step that survives a power loss."""
    for file in part.rglob("*"):
        fsync(file)
    fsync(part)
    if final.exists():  # a damaged one of the same step
        shutil.rmtree(final)
    os.replace(part, final)
    fsync(final.parent)


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
