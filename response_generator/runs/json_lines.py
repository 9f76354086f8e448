"""Files of one JSON object a line: read with the line's number in every complaint, written whole, added to."""

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
    """The rows of a file; none where there is no file.

    Args:
        allow_truncated_tail: the writer may have been killed; a last line that is no whole row is left out.

    Raises:
        InputError: with the number of the line that is no JSON object.
    """
    if not file.exists():
        return []
    rows = []
    lines = file.read_bytes().split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            # A lone surrogate, which JSON can write and UTF-8 cannot, comes back as it was written.
            row = strict_json.parse_json(line.decode("utf-8", "surrogatepass"), allow_nan=True)
        except ValueError as error:
            if allow_truncated_tail and number == len(lines):
                print(f"{file}: line {number} was cut off; what it belongs to is done again")
                break
            raise InputError(f"{file}, line {number}: is no JSON ({error}); mend or delete the line") from error
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number}: is no JSON object; mend or delete the line")
        rows.append(row)
    return rows


def write_jsonl(file: Path, rows: Iterable[Row]) -> None:
    """Writes a file anew, whole or not at all."""
    atomic_files.atomic_write(file, encode_rows(rows))


def append_jsonl(file: Path, rows: Iterable[Row]) -> None:
    """Adds rows at the end; of several processes the first one does."""
    if not distributed.is_main_process():
        return
    with open(file, "ab") as lines:
        lines.write(encode_rows(rows))
        lines.flush()
        os.fsync(lines.fileno())


def encode_rows(rows: Iterable[Row]) -> bytes:
    # A lone surrogate, which JSON can write and UTF-8 cannot, comes back as it was.
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "surrogatepass")
