"""A lock that lets one process at a time use a run folder. The system releases it when the process ends."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import TextIO

from response_generator.errors import InputError

LOCK_FILE = "run.lock"
HELD_LOCKS: dict[Path, TextIO] = {}  # kept open, because closing a file releases its lock


def find_holder(folder: Path) -> str | None:
    """Describes the other process that holds the lock of the folder; None if there is none."""
    file = folder / LOCK_FILE
    if folder.resolve() in HELD_LOCKS or not file.is_file():
        return None
    with open(file, encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return handle.read().strip() or "another process"
    return None


def acquire(folder: Path) -> None:
    """Locks a folder until this process ends.

    Raises:
        InputError: when another process holds the lock.
    """
    if folder.resolve() in HELD_LOCKS:
        return
    handle = open(folder / LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115 (stays open until the process ends)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise InputError(describe_holder(folder, find_holder(folder) or "another process")) from None
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    handle.flush()
    HELD_LOCKS[folder.resolve()] = handle


def describe_holder(folder: Path, holder: str) -> str:
    return f"output_dir: {folder}: in use by {holder}; wait until it ends, or name another folder"
