"""Reads, writes and extends JSON Lines files (one JSON object per line)."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.errors import InputError
from response_generator.runs import atomic_files, distributed

Row = dict[str, Any]


def read_jsonl(file: Path, allow_truncated_tail: bool = False) -> list[Row]:
    """Reads the rows of a file; returns none when the file does not exist.

    Args:
        allow_truncated_tail: leave out an incomplete last line, which a killed process may have written.

    Raises:
        InputError: with the number of the line that is not a JSON object.
    """
    if not file.exists():
        return []
    rows = []
    lines = file.read_bytes().split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            # "surrogatepass" keeps lone surrogates, which JSON allows and UTF-8 does not.
            row = strict_json.parse_json(line.decode("utf-8", "surrogatepass"), allow_nan=True)
        except ValueError as error:
            if allow_truncated_tail and number == len(lines):
                print(f"{file}: line {number} is incomplete (the program was stopped while writing it); left out")
                break
            raise InputError(f"{file}, line {number}: is not JSON ({error}); repair or delete the line") from error
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number}: is not a JSON object; repair or delete the line")
        rows.append(row)
    return rows


def write_jsonl(file: Path, rows: Iterable[Row]) -> None:
    """Replaces a file atomically."""
    atomic_files.atomic_write(file, encode_rows(rows))


def append_jsonl(file: Path, rows: Iterable[Row]) -> None:
    """Adds rows at the end of a file and syncs it to disk. Only the main process writes."""
    if not distributed.is_main_process():
        return
    with atomic_files.name_file_in_errors(file), open(file, "ab") as lines:
        lines.write(encode_rows(rows))
        lines.flush()
        os.fsync(lines.fileno())


def encode_rows(rows: Iterable[Row]) -> bytes:
    # "surrogatepass" keeps lone surrogates, which JSON allows and UTF-8 does not.
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "surrogatepass")
