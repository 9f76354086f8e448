"""Writes a file completely or not at all: into a temporary file that is synced to disk and then renamed."""

import os
from pathlib import Path


def atomic_write(file: Path, content: bytes) -> None:
    part = file.with_name(file.name + ".part")
    with open(part, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, file)
