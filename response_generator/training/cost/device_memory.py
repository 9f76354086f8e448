"""How much memory the device has, how much of it is free, and what this process uses. Sizes are bytes."""

import contextlib
import re
import resource
from pathlib import Path

import psutil
import torch

CGROUP_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")  # of a container; holds "max" where there is no limit
PROCESS_STATUS_FILE = Path("/proc/self/status")
PEAK_RESET_FILE, PEAK_RESET = Path("/proc/self/clear_refs"), "5"  # the value that resets VmHWM


def describe_memory() -> tuple[str, int]:
    """Name and total memory of what a run will use: the first GPU, or this machine or container."""
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return gpu.name, gpu.total_memory
    name = f"this machine ({get_free_bytes() / 1e9:.1f} GB available)"
    return name, min(psutil.virtual_memory().total, get_limit_bytes())


def get_free_bytes() -> int:
    """What a run can still allocate on that device."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return min(psutil.virtual_memory().available, get_limit_bytes() - get_process_rss_bytes())


def get_limit_bytes() -> int:
    """What the container may use; the machine's memory outside a container."""
    try:
        return int(CGROUP_LIMIT_FILE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return psutil.virtual_memory().total


def get_process_rss_bytes() -> int:
    """Resident memory of this process now; 0 where a GPU is used."""
    return 0 if torch.cuda.is_available() else psutil.Process().memory_info().rss


def reset_peak() -> None:
    """Lets the peak begin anew, for another run in the same process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # not Linux, or not permitted: the peak is then that of the whole process
        PEAK_RESET_FILE.write_text(PEAK_RESET, encoding="ascii")


def get_peak_bytes() -> int:
    """Peak of the GPU's allocated memory where there is one, else of this process's resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        # Not getrusage: its maximum includes the process that started this one.
        return int(re.search(r"VmHWM:\s+(\d+) kB", PROCESS_STATUS_FILE.read_text(encoding="ascii"))[1]) * 1024
    except (OSError, TypeError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
