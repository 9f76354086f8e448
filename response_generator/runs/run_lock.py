"""A lock that lets one process at a time use a run folder. The system releases it when the process ends."""

import fcntl
import os
import socket
import stat
import time
from pathlib import Path
from typing import TextIO

from response_generator.errors import InputError

LOCK_FILE = "run.lock"
# By device and inode, because a folder may be moved. Kept open, because closing a file releases its lock.
HELD_LOCKS: dict[tuple[int, int], TextIO] = {}


def find_errors(folder: Path) -> list[str]:
    """Returns why the folder cannot be locked: another process holds the lock, or it is not a file of its own."""
    file = folder / LOCK_FILE
    if not os.path.lexists(file) or is_held(file):
        return []
    status = os.lstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return [
            f"output_dir: {file}: is a link or no file, so locking the folder would change something else; move it "
            f"away, or name another folder"
        ]
    holder = find_holder(file)
    return [describe_holder(folder, holder)] if holder else []


def find_holder(file: Path) -> str | None:
    """Describes the other process that holds the lock; None if there is none."""
    with open_file(file, os.O_RDONLY) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return handle.read().strip() or "another process"
    return None


def acquire(folder: Path) -> None:
    """Locks a folder until this process ends.

    Raises:
        InputError: when another process holds the lock, or its file is a link.
    """
    if is_held(folder / LOCK_FILE):
        return
    if errors := find_errors(folder):
        raise InputError(*errors)
    handle = open_file(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise InputError(describe_holder(folder, find_holder(folder / LOCK_FILE) or "another process")) from None
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    handle.flush()
    status = os.fstat(handle.fileno())
    HELD_LOCKS[status.st_dev, status.st_ino] = handle


def is_held(file: Path) -> bool:
    """Whether this process holds the lock."""
    if not os.path.lexists(file):
        return False
    status = os.lstat(file)
    return (status.st_dev, status.st_ino) in HELD_LOCKS


def describe_holder(folder: Path, holder: str) -> str:
    return f"output_dir: {folder}: in use by {holder}; wait until it ends, or name another folder"


def open_file(file: Path, flags: int) -> TextIO:
    """Opens the file itself, never what a link leads to."""
    descriptor = os.open(file, flags | os.O_NOFOLLOW, 0o666)
    return os.fdopen(descriptor, "r" if flags == os.O_RDONLY else "r+", encoding="utf-8")
