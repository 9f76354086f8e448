"""Reads the unchecked rows of a data set from a file, a folder or the hub, each with its place for error messages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.config.schema import DatasetArguments
from response_generator.config.sources import is_commit, is_local, join_dataset_revision, split_revision
from response_generator.errors import InputError

SAVE_TO_DISK_FILES = ("dataset_dict.json", "state.json")  # written for a DatasetDict and for a Dataset


def read_rows(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    """Yields the `limit` rows from `offset` on as `(place, row)`; the place is the file and line, or the row number."""
    rows = read_local(dataset) if is_local(dataset.path) else read_hub(dataset)
    yield from islice(rows, dataset.offset, None if dataset.limit is None else dataset.offset + dataset.limit)


def count_rows(dataset: DatasetArguments) -> int:
    """Counts all rows, ignoring `offset` and `limit`, without parsing them where the format allows it."""
    if not is_local(dataset.path):
        return len(load_from_hub(dataset))
    path = Path(dataset.path)
    if is_saved_dataset(path):
        return len(load_saved_dataset(path, dataset.split))
    return sum(map(count_rows_in_file, find_split_files(path, dataset.split) if path.is_dir() else [path]))


def count_rows_in_file(file: Path) -> int:
    with report_damage(file):
        if file.suffix == ".parquet":
            from pyarrow import parquet

            return parquet.ParquetFile(file).metadata.num_rows
        if is_json_list(file):
            return sum(1 for _ in read_file(file))
        with open(file, encoding="utf-8-sig", errors="replace") as lines:
            return sum(1 for line in lines if line.strip())


def read_local(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    path = Path(dataset.path)
    if is_saved_dataset(path):
        yield from (
            (f"{path}, row {number}:", row) for number, row in enumerate(load_saved_dataset(path, dataset.split))
        )
        return
    for file in find_split_files(path, dataset.split) if path.is_dir() else [path]:
        with report_damage(file):
            yield from read_file(file)


@contextmanager
def report_damage(file: Path) -> Iterator[None]:
    """Turns the errors of reading a damaged file into an InputError."""
    from pyarrow import ArrowException

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


def is_saved_dataset(folder: Path) -> bool:
    """Whether the folder was written by `save_to_disk`."""
    return any((folder / name).is_file() for name in SAVE_TO_DISK_FILES)


def load_saved_dataset(folder: Path, split: str):
    """Loads a folder written by `save_to_disk`: the rows of `split`, or all rows when it has no splits."""
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    except Exception as error:  # damaged files raise various errors of json, pyarrow and datasets
        raise InputError(f"dataset: {folder}: cannot be read as a saved data set ({error}); save it again") from error
    if isinstance(dataset, DatasetDict):
        if split not in dataset:
            raise InputError(f"dataset: {folder}: holds no split {split}; it has {', '.join(dataset)}")
        dataset = dataset[split]
    return dataset.with_format(None)


def find_split_files(folder: Path, split: str) -> list[Path]:
    """Returns the one file named after the split, or the parquet files `data/SPLIT-*` as in a hub repository."""
    candidates = [folder / f"{split}{suffix}" for suffix in (".jsonl", ".json", ".parquet")]
    data_files = sorted((folder / "data").iterdir()) if (folder / "data").is_dir() else []
    # os.path.isfile, because Path.is_file raises on a name that is too long.
    files = [file for file in candidates if os.path.isfile(file)][:1]
    files = files or [file for file in data_files if file.name.startswith(f"{split}-") and file.suffix == ".parquet"]
    if not files:
        raise InputError(
            f"dataset: {folder}: holds no {split}.jsonl, .json or .parquet, no data/{split}-*.parquet, and was not "
            f"written by save_to_disk"
        )
    return files


def read_file(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".parquet":
        yield from read_parquet(file)
    elif is_json_list(file):
        rows = parse_row(file.read_text(encoding="utf-8-sig"), str(file))
        yield from ((f"{file}, row {number}:", row) for number, row in enumerate(rows))
    else:
        with open(file, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = parse_row(line.strip(), f"{file}, line {number}")
                except InputError as error:
                    raise InputError(f"{error}; needed: one row per line, or one list of rows") from error
                yield f"{file}, line {number}:", row


def is_json_list(file: Path) -> bool:
    """Whether a file holds one JSON list (its first character is [); otherwise it has one row per line."""
    with open(file, encoding="utf-8-sig") as text:
        return next((line.lstrip()[0] == "[" for line in text if line.strip()), False)


def parse_row(text: str, place: str) -> Any:
    try:
        return strict_json.parse_json(text, allow_nan=True)  # NaN is refused later, and only in used columns
    except strict_json.JSONError as error:
        raise InputError(f"{place}: {error}") from error


def read_parquet(file: Path) -> Iterator[tuple[str, Any]]:
    from pyarrow import parquet

    number = 0
    for batch in parquet.ParquetFile(file).iter_batches():
        for row in batch.to_pylist():
            yield f"{file}, row {number}:", row
            number += 1


def read_hub(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    rows = load_from_hub(dataset)
    check_commit(dataset, split_revision(join_dataset_revision(dataset.path, dataset.revision))[1])
    for number, row in enumerate(rows):
        yield f"{dataset.path}, row {number}:", row


def load_from_hub(dataset: DatasetArguments):
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    repository, revision = split_revision(join_dataset_revision(dataset.path, dataset.revision))
    try:
        return load_dataset(repository, dataset.name, split=dataset.split, revision=revision, num_proc=dataset.num_proc)
    except (
        DatasetsError,
        ValueError,
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: a data set with a loading script
        raise InputError(f"dataset.path: {dataset.path}: {error}") from error


def check_commit(dataset: DatasetArguments, revision: str | None) -> None:
    """Raises InputError if `datasets` may have read another revision than the one in the args.

    Without a network, `datasets` reads the version it prepared last, whatever the revision is. Only a full commit id
    can be compared with that version.
    """
    from huggingface_hub import constants

    if revision is None or is_local(dataset.path):
        return
    if is_commit(revision):
        commit = find_dataset_commit(dataset)
        if commit not in (None, revision):
            raise InputError(
                f"dataset.path: {dataset.path}: the hub cannot be reached, and the cache holds commit {commit}, not "
                f"{revision}; connect to the network, or name a local copy"
            )
    elif constants.HF_HUB_OFFLINE:
        raise InputError(
            f"dataset.path: {dataset.path}: the commit of revision {revision} is unknown without the hub; connect to "
            f"the network, or write the full commit id"
        )


def find_dataset_commit(dataset: DatasetArguments) -> str | None:
    """Returns the commit that `load_dataset` reads for these arguments; None if it is unknown."""
    from datasets import load_dataset_builder

    repository, revision = split_revision(join_dataset_revision(dataset.path, dataset.revision))
    commit = load_dataset_builder(repository, dataset.name, revision=revision).hash
    return commit if is_commit(commit) else None


def describe_json_type(value: Any) -> str:
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, str) and not value.strip():
        return "blank"
    return {list: "a list", dict: "an object", str: "text", type(None): "null"}.get(type(value), repr(value)[:40])
