"""Writes a folder completely or not at all: into a temporary folder beside it, which is then renamed."""

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

LOCK_FILE, CONTENT = "atomic_folder.lock", "content"


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields the path of a folder to write, which becomes `target` unless the block ends with an exception.

    What earlier calls for the same target have left behind is removed first: a process that was killed could not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        with open(Path(temporary, LOCK_FILE), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system releases it when this process ends
            yield Path(temporary, CONTENT)
            os.replace(Path(temporary, CONTENT), target)


def remove_leftovers(target: Path) -> None:
    """Removes the temporary folders of processes that were killed while they wrote `target`: they hold the lock file
    and the content alone, and no process holds the lock."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}-*"):
        lock_file = folder / LOCK_FILE
        if folder.is_symlink() or not lock_file.is_file() or {*os.listdir(folder)} - {LOCK_FILE, CONTENT}:
            continue
        with open(lock_file, "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            print(f"{folder} is removed: a process that was killed has left it")
            shutil.rmtree(folder, ignore_errors=True)
