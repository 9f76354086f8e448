"""Errors of the system while a file is written: they name the file, whichever library writes."""

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from response_generator.cli import command_line
from response_generator.runs import atomic_files, json_lines


@contextmanager
def full_disk():
    """A limit on the size of files stands for it: the write fails in its middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_tensors(file: Path) -> None:
    with atomic_files.name_file_in_errors(file):
        save_file({"weights": torch.zeros(1000)}, file)


def save_tokenizer(file: Path) -> None:
    words = {str(number): number for number in range(1000)}
    with atomic_files.name_file_in_errors(file):
        Tokenizer(models.WordLevel(words, unk_token="0")).save(str(file))


WRITERS = {
    "a whole file": lambda file: atomic_files.atomic_write(file, b"x" * 2000),
    "a line": lambda file: json_lines.append_jsonl(file, [{"text": "x" * 2000}]),
    "tensors": save_tensors,
    "a tokenizer": save_tokenizer,
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_names_the_file(tmp_path, what, capsys):
    file = tmp_path / "file"
    with full_disk():
        status = command_line.run_main(lambda: WRITERS[what](file))
    assert status == 1
    words = f"error: {file} could not be written (File too large); free space and run the same command again"
    assert capsys.readouterr().err.splitlines()[-1] == words


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EIO, "check the disk"),
        (errno.EROFS, "make the disk writable"),
        (errno.EACCES, "let this user read and write it (another user may have made it)"),
    ],
)
def test_other_errors_of_a_disk_say_what_to_do(number, advice, capsys):
    def fail():
        raise OSError(number, os.strerror(number), "/data/rows.jsonl")

    assert command_line.run_main(fail) == 1
    words = f"error: /data/rows.jsonl: {os.strerror(number)}; {advice} and run the same command again"
    assert capsys.readouterr().err.splitlines()[-1] == words


def test_other_errors_stay_as_they_are():
    with pytest.raises(ValueError, match="^mistake$"), atomic_files.name_file_in_errors(Path("file")):
        raise ValueError("mistake")
    with pytest.raises(FileNotFoundError) as error, atomic_files.name_file_in_errors(Path("file")):
        open("/nowhere/other", encoding="utf-8")
    assert error.value.filename == "/nowhere/other"
