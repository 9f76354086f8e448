"""The role of this process among those started by torchrun or `accelerate launch`; unsupported sharding."""

import os
import sys
import time
from pathlib import Path
from typing import Any

WAIT_SECONDS = 0.5
TRUE_VALUES = ("1", "true", "yes", "on")


def is_main_process() -> bool:
    """True in the one process that writes files and prints."""
    return int(os.environ.get("RANK", 0)) == 0


def is_local_main_process() -> bool:
    """True in one process per machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def wait_for_main_process(file: Path) -> None:
    """Waits until the main process has written a file. It may work alone for longer than a barrier waits."""
    while not is_main_process() and not file.is_file():
        time.sleep(WAIT_SECONDS)


def silence_other_processes() -> None:
    """Lets only the main process print; the others print errors only."""
    if not is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open as long as the process)


def find_sharding_errors(training: dict[str, Any]) -> list[str]:
    """Returns an error for each requested way of sharding the model (FSDP, DeepSpeed): none is supported."""
    errors = []
    advice = "use DDP (plain processes) instead: a 4-bit base model with LoRA fits on each GPU"
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in TRUE_VALUES or training.get("fsdp"):
        errors.append(f"FSDP does not work with unsloth and a frozen 4-bit base model; {advice}")
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in TRUE_VALUES or training.get("deepspeed"):
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
        name = f"DeepSpeed ZeRO-{stage}" if stage else "DeepSpeed"
        errors.append(f"{name} does not work with unsloth and a frozen 4-bit base model; {advice}")
    return errors
