"""The raw rows of a data set, from a file, a folder or the hub, each with the place to name in an error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.config.schema import DatasetArguments
from response_generator.config.sources import is_commit, is_local, join_dataset_revision, split_revision
from response_generator.errors import InputError

SAVE_TO_DISK_FILES = ("dataset_dict.json", "state.json")  # of a DatasetDict; of a Dataset


def read_rows(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    """Yields the first `limit` rows with the place to name in an error: file and line, or row number."""
    for number, row in enumerate(read_local(dataset) if is_local(dataset.path) else read_hub(dataset)):
        if number == dataset.limit:
            return
        yield row


def count_rows(dataset: DatasetArguments) -> int:
    """How many rows there are, `limit` or not; beyond it they are counted without being parsed."""
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
    """Raises InputError for what a damaged file ends in."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError, OverflowError) as error:  # OverflowError: a day of no calendar
        if file.suffix == ".parquet":
            words = f"cannot be read as parquet ({error}); fetch or write it again"
        elif isinstance(error, UnicodeDecodeError):
            words = f"is not UTF-8 ({error.reason} at byte {error.start}); convert it"
        else:
            words = f"cannot be read ({error})"
        raise InputError(f"{file}: {words}") from error


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` has written the folder."""
    return any((folder / name).is_file() for name in SAVE_TO_DISK_FILES)


def load_saved_dataset(folder: Path, split: str):
    """The rows of a folder that `save_to_disk` wrote: of its split, or all, where it holds no splits."""
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # damaged files end in errors of json, pyarrow and datasets alike
        raise InputError(f"dataset: {folder}: cannot be read as a saved data set ({error}); save it again") from error
    if isinstance(found, DatasetDict):
        if split not in found:
            raise InputError(f"dataset: {folder}: holds no split {split}; it has {', '.join(found)}")
        found = found[split]
    return found.with_format(None)


def find_split_files(folder: Path, split: str) -> list[Path]:
    """One file named after the split, or the parts of it that a repository of the hub holds."""
    whole = [folder / f"{split}{ending}" for ending in (".jsonl", ".json", ".parquet")]
    parts = sorted((folder / "data").iterdir()) if (folder / "data").is_dir() else []
    found = [file for file in whole if os.path.isfile(file)][:1]  # a split's name may be longer than a file's
    found = found or [file for file in parts if file.name.startswith(f"{split}-") and file.suffix == ".parquet"]
    if not found:
        raise InputError(
            f"dataset: {folder}: holds no {split}.jsonl, .json or .parquet, no data/{split}-*.parquet, and was not "
            f"written by save_to_disk"
        )
    return found


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
                    raise InputError(f"{error}; needed: a row a line, or one list of rows") from error
                yield f"{file}, line {number}:", row


def is_json_list(file: Path) -> bool:
    """Whether a file is one JSON list; else it holds a row a line, however it is called."""
    with open(file, encoding="utf-8-sig") as text:
        return next((line.lstrip()[0] == "[" for line in text if line.strip()), False)


def parse_row(text: str, place: str) -> Any:
    try:
        return strict_json.parse_json(text, allow_nan=True)  # perhaps of a column that nobody needs
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
    except (DatasetsError, ValueError, OSError, RuntimeError) as error:  # RuntimeError: a data set that is a script
        raise InputError(f"dataset.path: {dataset.path}: {error}") from error


def check_commit(dataset: DatasetArguments, revision: str | None) -> None:
    """Raises InputError where `datasets` has taken other rows than those of the revision.

    Without a network it takes what it has prepared last, whatever the revision, and only a commit tells that.
    """
    from huggingface_hub import constants

    if revision is None or is_local(dataset.path):
        return
    if is_commit(revision):
        found = find_dataset_commit(dataset)
        if found not in (None, revision):
            raise InputError(
                f"dataset.path: {dataset.path}: the hub cannot be reached, and the cache holds commit {found}, not "
                f"{revision}; connect, or name a local copy"
            )
    elif constants.HF_HUB_OFFLINE:
        raise InputError(
            f"dataset.path: {dataset.path}: without the hub it cannot be told which commit {revision} is; connect, or "
            f"write the whole commit id"
        )


def find_dataset_commit(dataset: DatasetArguments) -> str | None:
    """The commit that `load_dataset` takes for these arguments; None where it cannot be told."""
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
