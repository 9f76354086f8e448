"""Reads the unchecked rows of a data set from a file, a folder or the hub, each with its place for error messages."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pyarrow import ArrowException, parquet

from response_generator.config import strict_json
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.sources import is_local
from response_generator.errors import InputError

SAVE_TO_DISK_FILES = ("dataset_dict.json", "state.json")  # written for a DatasetDict and for a Dataset


def read_rows(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    """Yields the `limit` rows from `offset` on as `(place, row)`; the place is the file and line, or the row number."""
    if needs_library(dataset):
        rows = number_rows(str(Path(dataset.path)), load_rows(dataset))
    else:
        rows = chain.from_iterable(map(read_file, find_files(dataset)))
    yield from islice(rows, dataset.offset, None if dataset.limit is None else dataset.offset + dataset.limit)


def count_rows(dataset: DatasetArguments) -> int:
    """Counts all rows, ignoring `offset` and `limit`, without parsing them where the format allows it."""
    return len(load_rows(dataset)) if needs_library(dataset) else sum(map(count_rows_in_file, find_files(dataset)))


def needs_library(dataset: DatasetArguments) -> bool:
    """Whether the library `datasets` reads it: it is on the hub, or a folder that `save_to_disk` wrote."""
    return not is_local(dataset.path) or any(Path(dataset.path, name).is_file() for name in SAVE_TO_DISK_FILES)


def load_rows(dataset: DatasetArguments):
    """See `dataset_library.load_rows`."""
    from response_generator.data import dataset_library  # imports torch, for which rows in files need not wait

    return dataset_library.load_rows(dataset)


def find_files(dataset: DatasetArguments) -> list[Path]:
    """The file itself; of a folder, the file named after the split, or the parquet files `data/SPLIT-*` as in a hub
    repository."""
    path, split = Path(dataset.path), dataset.split
    if not path.is_dir():
        return [path]
    candidates = [path / f"{split}{suffix}" for suffix in (".jsonl", ".json", ".parquet")]
    data_files = sorted((path / "data").iterdir()) if (path / "data").is_dir() else []
    # os.path.isfile, because Path.is_file raises on a name that is too long.
    files = [file for file in candidates if os.path.isfile(file)][:1]
    files = files or [file for file in data_files if file.name.startswith(f"{split}-") and file.suffix == ".parquet"]
    if not files:
        raise InputError(
            f"dataset: {path}: holds no {split}.jsonl, .json or .parquet, no data/{split}-*.parquet, and was not "
            f"written by save_to_disk"
        )
    return files


def read_file(file: Path) -> Iterator[tuple[str, Any]]:
    with report_damage(file):
        if file.suffix == ".parquet":
            batches = parquet.ParquetFile(file).iter_batches()
            yield from number_rows(str(file), chain.from_iterable(batch.to_pylist() for batch in batches))
        elif is_json_list(file):
            yield from number_rows(str(file), parse_row(file.read_text(encoding="utf-8-sig"), str(file)))
        else:
            yield from read_json_lines(file)


def read_json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    with open(file, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = parse_row(line.strip(), f"{file}, line {number}")
            except InputError as error:
                raise InputError(f"{error}; needed: one row per line, or one list of rows") from error
            yield f"{file}, line {number}:", row


def number_rows(place: str, rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{place}, row {number}:", row) for number, row in enumerate(rows))


def count_rows_in_file(file: Path) -> int:
    with report_damage(file):
        if file.suffix == ".parquet":
            return parquet.ParquetFile(file).metadata.num_rows
        if is_json_list(file):
            return sum(1 for _ in read_file(file))
        with open(file, encoding="utf-8-sig", errors="replace") as lines:
            return sum(1 for line in lines if line.strip())


@contextmanager
def report_damage(file: Path) -> Iterator[None]:
    """Turns the errors of reading a damaged file into an InputError."""
    try:
        yield
    except (ArrowException, OSError, ValueError, OverflowError) as error:  # OverflowError: an impossible date
        if file.suffix == ".parquet":
            message = f"cannot be read as parquet ({error}); download or write it again"
        elif isinstance(error, UnicodeDecodeError):
            message = f"is not UTF-8 ({error.reason} at byte {error.start}); convert it"
        else:
            message = f"cannot be read ({error})"
        raise InputError(f"{file}: {message}") from error


def is_json_list(file: Path) -> bool:
    """Whether a file holds one JSON list (its first character is [); otherwise it has one row per line."""
    with open(file, encoding="utf-8-sig") as text:
        return next((line.lstrip()[0] == "[" for line in text if line.strip()), False)


def parse_row(text: str, place: str) -> Any:
    try:
        return strict_json.parse_json(text, allow_nan=True)  # NaN is refused later, and only in used columns
    except strict_json.JSONError as error:
        raise InputError(f"{place}: {error}") from error
