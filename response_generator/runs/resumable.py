"""Work in pieces, into a file that grows: a run goes on where it was stopped, at any moment.

Several processes share the pieces and the first one writes, so the file does not depend on how many there are.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from response_generator.errors import InputError
from response_generator.runs import distributed, json_lines
from response_generator.runs.json_lines import Row

Key = Hashable


def load_completed(
    file: Path, pieces: Sequence[Sequence[Key]], key: Callable[[Row], Key]
) -> tuple[list[Row], list[bool]]:
    """What an earlier start has left: the rows of whole pieces, and which pieces these are.

    The file is left with those rows alone, in the order of the pieces.

    Args:
        pieces: the keys of the rows that each piece of work writes.
        key: the key of a row.

    Raises:
        InputError: when the file holds rows that no piece of work writes.
    """
    found: list = [[], [False] * len(pieces)]
    if distributed.is_main_process():
        held = {key(row): row for row in json_lines.read_jsonl(file, allow_truncated_tail=True)}
        strange = set(held) - {name for piece in pieces for name in piece}
        if strange:
            raise InputError(f"{file}: holds rows of other data, {strange.pop()} for one; name another output_dir")
        done = [all(name in held for name in piece) for piece in pieces]
        rows = [held[name] for piece, whole in zip(pieces, done, strict=True) if whole for name in piece]
        json_lines.write_jsonl(file, rows)
        found = [rows, done]
    rows, done = broadcast_object_list(found)
    return rows, done


def remaining_batches(
    file: Path,
    models: Sequence[str],
    batches: Sequence[Any],
    keys: Callable[[str, Any], Sequence[Key]],
    key: Callable[[Row], Key],
) -> tuple[list[Row], dict[str, list[Any]]]:
    """What is left of every model's doing every batch: the rows that are there, and `{model: batches to do}`.

    Args:
        keys: the keys of the rows that a model writes for a batch.
        key: see `load_completed`, which says what is raised, too.
    """
    pieces = [(model, batch) for model in models for batch in batches]
    rows, done = load_completed(file, [keys(*piece) for piece in pieces], key)
    left: dict[str, list[Any]] = {model: [] for model in models}
    for (model, batch), is_done in zip(pieces, done, strict=True):
        if not is_done:
            left[model].append(batch)
    return rows, left


def map_batches(
    file: Path,
    pieces: Sequence[Any],
    work: Callable[[Any], list[Row]],
    written: Callable[[list[Row], float], None],
) -> None:
    """Does every piece of work once and appends its rows to the file, in the order of the pieces.

    Args:
        written: told after each round: the rows that were added, and the seconds it took.
    """
    state = PartialState()
    for start in range(0, len(pieces), state.num_processes):
        began = time.monotonic()
        mine = pieces[start : start + state.num_processes][state.process_index :][:1]
        rows = gather_object([row for piece in mine for row in work(piece)])
        json_lines.append_jsonl(file, rows)
        written(rows, time.monotonic() - began)


def progress_bar(task: str, total: int, unit: str) -> tqdm:
    """A bar on the terminal of the first process."""
    return tqdm(total=total, desc=task, unit=unit, dynamic_ncols=True, disable=not distributed.is_main_process())


def shutdown_distributed() -> None:
    """Lets the processes part: from here on the first one works alone."""
    PartialState().destroy_process_group()
