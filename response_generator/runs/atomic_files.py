"""Writes a file completely or not at all: into a temporary file that is synced to disk and then renamed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUST_ERROR_NUMBER = re.compile(r"\(os error (\d+)\)")  # in the messages of safetensors and tokenizers


def atomic_write(file: Path, content: bytes) -> None:
    part = file.with_name(file.name + ".part")
    with name_file_in_errors(file):
        with open(part, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, file)


@contextmanager
def name_file_in_errors(file: Path) -> Iterator[None]:
    """Gives an error of the system, such as a full disk, the name of the file that is written.

    A write in Python has no name in its error. safetensors and tokenizers raise exceptions of their own.
    """
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise
    except Exception as error:
        number = RUST_ERROR_NUMBER.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from error
