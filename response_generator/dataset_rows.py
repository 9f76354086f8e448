"""The raw rows of a data set, from a file, a folder or the hub, each with the place to name in an error."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from response_generator.arguments import DatasetArguments
from response_generator.errors import InputError
from response_generator.sources import dataset_source, is_commit, is_local, split_revision


def read_rows(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    """Yields the first `limit` rows with the place to name in an error: file and line, or row number."""
    for number, row in enumerate(read_local(dataset) if is_local(dataset.path) else read_hub(dataset)):
        if number == dataset.limit:
            return
        yield row


def read_local(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    path = Path(dataset.path)
    for file in files_of_split(path, dataset.split) if path.is_dir() else [path]:
        try:
            yield from read_file(file)
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: is not UTF-8 ({error.reason} at byte {error.start}); convert it") from error


def files_of_split(folder: Path, split: str) -> list[Path]:
    """One file named after the split, or the parts of it that a repository of the hub holds."""
    for pattern in (f"{split}.jsonl", f"{split}.json", f"{split}.parquet", f"data/{split}-*.parquet"):
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise InputError(f"dataset: {folder}: holds no {split}.jsonl, .json or .parquet, and no data/{split}-*.parquet")


def read_file(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".parquet":
        yield from read_parquet(file)
    elif file.suffix == ".jsonl":
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file}, line {number}:", parse_json(line, f"{file}, line {number}")
    else:
        rows = parse_json(file.read_text(encoding="utf-8"), str(file))
        if not isinstance(rows, list):
            raise InputError(f"{file}: holds {kind(rows)}; needed: a list of rows")
        yield from ((f"{file}, row {number}:", row) for number, row in enumerate(rows))


def parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise InputError(f"{place}: broken JSON at {at}: {error.msg}") from error


def read_parquet(file: Path) -> Iterator[tuple[str, Any]]:
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise InputError(f"{file}: cannot be read as parquet ({error})") from error
    number = 0
    for batch in table.iter_batches():
        for row in batch.to_pylist():
            yield f"{file}, row {number}:", row
            number += 1


def read_hub(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    repository, revision = split_revision(dataset_source(dataset.path, dataset.revision))
    try:
        rows = load_dataset(repository, dataset.name, split=dataset.split, revision=revision, num_proc=dataset.num_proc)
    except (DatasetsError, ValueError, OSError, RuntimeError) as error:  # RuntimeError: a data set that is a script
        raise InputError(f"dataset.path: {dataset.path}: {error}") from error
    check_commit(dataset, revision)
    for number, row in enumerate(rows):
        yield f"{dataset.path}, row {number}:", row


def check_commit(dataset: DatasetArguments, revision: str | None) -> None:
    """Raises InputError where `datasets` has taken other rows than those of the revision.

    Without a network it takes what it has prepared last, whatever the revision, and only a commit tells that.
    """
    from huggingface_hub import constants

    if revision is None or is_local(dataset.path):
        return
    if is_commit(revision):
        found = dataset_commit(dataset)
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


def dataset_commit(dataset: DatasetArguments) -> str | None:
    """The commit that `load_dataset` takes for these arguments; None where it cannot be told."""
    from datasets import load_dataset_builder

    repository, revision = split_revision(dataset_source(dataset.path, dataset.revision))
    commit = load_dataset_builder(repository, dataset.name, revision=revision).hash
    return commit if is_commit(commit) else None


def kind(value: Any) -> str:
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, str) and not value.strip():
        return "blank"
    return {list: "a list", dict: "an object", str: "text", type(None): "null"}.get(type(value), repr(value)[:40])
