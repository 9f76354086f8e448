"""Several processes, started by torchrun or `accelerate launch`: which one this is, and what cannot work."""

import os
import sys
from typing import Any

TRUE_VALUES = ("1", "true", "yes", "on")


def is_main_process() -> bool:
    """True in the process that writes files and speaks."""
    return int(os.environ.get("RANK", 0)) == 0


def is_local_main_process() -> bool:
    """True in one process of every machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def silence_other_processes() -> None:
    """One voice: the other processes print nothing but errors."""
    if not is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open as long as the process)


def find_sharding_errors(dpo: dict[str, Any]) -> list[str]:
    """Names the ways of splitting a model that do not go with a 4-bit base, adapters and exact resumption."""
    found = []
    instead = "start plain processes instead (DDP): a 4-bit base with LoRA fits on every card"
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in TRUE_VALUES or dpo.get("fsdp"):
        found.append(f"FSDP does not go with unsloth and a frozen 4-bit base; {instead}")
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in TRUE_VALUES or dpo.get("deepspeed"):
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
        name = f"DeepSpeed ZeRO-{stage}" if stage else "DeepSpeed"
        found.append(f"{name} does not go with unsloth and a frozen 4-bit base; {instead}")
    return found
