"""JSON-lines files that grow by whole pieces of work, so that a run goes on where it was stopped, at any moment.

Several processes share the pieces and the first one writes, so the file does not depend on how many there are.
"""

import json
import os
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from response_generator import processes
from response_generator.errors import InputError

Row = dict[str, Any]
Key = Hashable


def read(file: Path, cut_off: bool = False) -> list[Row]:
    """The rows of a file; none where there is no file.

    Args:
        cut_off: the writer may have been killed; a last line that is no whole row is left out.

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
            row = json.loads(line)
        except ValueError as error:
            if cut_off and number == len(lines):
                print(f"{file}: line {number} was cut off; what it belongs to is done again")
                break
            raise InputError(f"{file}, line {number}: is no JSON ({error}); mend or remove the file") from error
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number}: is no JSON object; mend or remove the file")
        rows.append(row)
    return rows


def replace(file: Path, rows: Iterable[Row]) -> None:
    """Writes a file anew, whole or not at all."""
    part = file.with_name(file.name + ".part")
    with open(part, "wb") as lines:
        lines.write(as_lines(rows))
        lines.flush()
        os.fsync(lines.fileno())
    os.replace(part, file)


def append(file: Path, rows: Iterable[Row]) -> None:
    """Adds rows at the end; of several processes the first one does."""
    if not processes.is_first():
        return
    with open(file, "ab") as lines:
        lines.write(as_lines(rows))
        lines.flush()
        os.fsync(lines.fileno())


def as_lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "surrogatepass")


def taken_up(file: Path, pieces: Sequence[Sequence[Key]], key: Callable[[Row], Key]) -> tuple[list[Row], list[bool]]:
    """What an earlier start has left: the rows of whole pieces, and which pieces these are.

    The file is left with those rows alone, in the order of the pieces.

    Args:
        pieces: the keys of the rows that each piece of work writes.
        key: the key of a row.

    Raises:
        InputError: when the file holds rows that no piece of work writes.
    """
    found: list = [[], [False] * len(pieces)]
    if processes.is_first():
        held = {key(row): row for row in read(file, cut_off=True)}
        strange = set(held) - {name for piece in pieces for name in piece}
        if strange:
            raise InputError(f"{file}: holds rows of other data ({strange.pop()}); name another output_dir")
        done = [all(name in held for name in piece) for piece in pieces]
        rows = [held[name] for piece, whole in zip(pieces, done, strict=True) if whole for name in piece]
        replace(file, rows)
        found = [rows, done]
    rows, done = broadcast_object_list(found)
    return rows, done


def work_off(
    file: Path,
    pieces: Sequence[Any],
    work: Callable[[Any], list[Row]],
    written: Callable[[list[Row], float], None],
) -> None:
    """Does every piece of work once and appends its rows to the file, in the order of the pieces.

    Args:
        written: told in every process, after each round: the rows that were added, and the seconds it took.
    """
    state = PartialState()
    for start in range(0, len(pieces), state.num_processes):
        began = time.monotonic()
        mine = pieces[start : start + state.num_processes][state.process_index :][:1]
        rows = gather_object([row for piece in mine for row in work(piece)])
        append(file, rows)
        written(rows, time.monotonic() - began)


def close() -> None:
    """Lets the processes part: from here on the first one works alone."""
    PartialState().destroy_process_group()
