"""How much memory the device has, how much of it is free, and what this process holds."""

from pathlib import Path

import psutil
import torch

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container; "max" where there is none


def describe_memory() -> tuple[str, int]:
    """Name and total bytes of what a run will use: the first card, or this machine or container."""
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return card.name, card.total_memory
    return f"this machine ({get_free_bytes() / 1e9:.1f} GB available)", min(
        psutil.virtual_memory().total, get_limit_bytes()
    )


def get_free_bytes() -> int:
    """Bytes of it that a run can still take."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return min(psutil.virtual_memory().available, get_limit_bytes() - get_process_rss_bytes())


def get_limit_bytes() -> int:
    """What the container may use; the machine's memory outside one."""
    try:
        return int(CGROUP_LIMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return psutil.virtual_memory().total


def get_process_rss_bytes() -> int:
    """Bytes that this process holds now; 0 where a card is used."""
    return 0 if torch.cuda.is_available() else psutil.Process().memory_info().rss
