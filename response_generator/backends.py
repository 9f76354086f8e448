"""Chooses the loader by importing it first. Call `import_backend` before anything imports transformers."""

import ctypes
import logging
import os

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def import_backend(name: str) -> None:
    """unsloth patches transformers, trl and peft at import, so it has to come before them."""
    # Lines that every run would print and no user can act on: torch about torchao's enums, bitsandbytes about a
    # kernel package it does not need.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()
    if name == "unsloth":
        import unsloth  # noqa: F401


def keep_freed_memory() -> None:
    """Lets malloc keep what torch frees.

    By default every activation of a megabyte or more is mapped from the system and given back at once, and a CPU run
    spends a quarter of its time in page faults.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_TOP_PAD, 256 * 2**20)
