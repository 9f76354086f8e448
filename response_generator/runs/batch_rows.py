"""Resumable work: the rows of each batch are appended to a file, and a resumed run computes only missing batches.

Several processes share the batches and the main process writes, so the file does not depend on their number.
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
    file: Path, batch_keys: Sequence[Sequence[Key]], get_key: Callable[[Row], Key]
) -> tuple[list[Row], list[bool]]:
    """Reads the rows that an earlier start has written, and keeps only those of complete batches in the file.

    Args:
        batch_keys: for each batch, the keys of the rows that it writes.
        get_key: returns the key of a row.

    Returns:
        The rows of complete batches in the order of the batches, and for each batch whether it is complete.

    Raises:
        InputError: when the file holds rows that belong to no batch, or have no key.
    """
    result: list = [[], [False] * len(batch_keys)]
    if distributed.is_main_process():
        rows_by_key = {}
        for line, row in enumerate(json_lines.read_jsonl(file, allow_truncated_tail=True), 1):
            try:
                rows_by_key[get_key(row)] = row
            except TypeError as error:  # a list, which is no key of a dict
                raise InputError(
                    f"{file}, line {line}: has a list or an object in place of a number or a name ({get_key(row)}); "
                    f"repair or delete the line"
                ) from error
        unknown_keys = set(rows_by_key) - {key for keys in batch_keys for key in keys}
        if unknown_keys:
            raise InputError(
                f"{file}: holds rows of other data, for example {unknown_keys.pop()}; name another output_dir"
            )
        completed = [all(key in rows_by_key for key in keys) for keys in batch_keys]
        rows = [
            rows_by_key[key]
            for keys, is_complete in zip(batch_keys, completed, strict=True)
            if is_complete
            for key in keys
        ]
        json_lines.write_jsonl(file, rows)
        result = [rows, completed]
    rows, completed = broadcast_object_list(result)
    return rows, completed


def find_remaining(
    file: Path,
    models: Sequence[str],
    batches: Sequence[Any],
    list_keys: Callable[[str, Any], Sequence[Key]],
    get_key: Callable[[Row], Key],
) -> tuple[list[Row], dict[str, list[Any]]]:
    """Finds the batches that each model still has to compute.

    Args:
        list_keys: returns the keys of the rows that a model writes for a batch.
        get_key: returns the key of a row.

    Returns:
        The rows of complete batches, and `{model: batches to compute}`.

    Raises:
        InputError: when the file holds rows that belong to no batch.
    """
    model_batches = [(model, batch) for model in models for batch in batches]
    rows, completed = load_completed(file, [list_keys(model, batch) for model, batch in model_batches], get_key)
    remaining: dict[str, list[Any]] = {model: [] for model in models}
    for (model, batch), is_complete in zip(model_batches, completed, strict=True):
        if not is_complete:
            remaining[model].append(batch)
    return rows, remaining


def map_batches(
    file: Path,
    batches: Sequence[Any],
    compute: Callable[[Any], list[Row]],
    report: Callable[[list[Row], float], None],
) -> None:
    """Computes every batch once and appends its rows to the file, in the order of the batches.

    Args:
        compute: returns the rows of a batch.
        report: called after each round (one batch per process) with the rows that were added and the seconds it took.
    """
    state = PartialState()
    for start in range(0, len(batches), state.num_processes):
        start_seconds = time.monotonic()
        own_batches = batches[start : start + state.num_processes][state.process_index :][:1]
        rows = gather_object([row for batch in own_batches for row in compute(batch)])
        json_lines.append_jsonl(file, rows)
        report(rows, time.monotonic() - start_seconds)


def read_rows(file: Path) -> list[Row]:
    """The rows of a file that the main process has written, in every process."""
    (rows,) = broadcast_object_list([json_lines.read_jsonl(file) if distributed.is_main_process() else None])
    return rows


def progress_bar(task: str, total: int, unit: str) -> tqdm:
    """Returns a progress bar that only the main process shows."""
    return tqdm(total=total, desc=task, unit=unit, dynamic_ncols=True, disable=not distributed.is_main_process())


def shutdown_distributed() -> None:
    """Ends the communication between processes; after this call the main process works alone."""
    PartialState().destroy_process_group()
