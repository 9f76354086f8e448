"""Data sets that the library `datasets` reads: of the hub, and folders that `save_to_disk` wrote. Imports torch."""

from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetsError
from huggingface_hub import constants

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.sources import is_commit, is_local, join_dataset_revision, split_revision
from response_generator.errors import InputError


def load_rows(dataset: DatasetArguments) -> Dataset:
    """Loads the rows of a split; of a saved folder without splits, all rows.

    Raises:
        InputError: when it cannot be read, has no such split, or may have been read at another revision.
    """
    return load_saved(Path(dataset.path), dataset.split) if is_local(dataset.path) else load_from_hub(dataset)


def load_saved(folder: Path, split: str) -> Dataset:
    try:
        dataset = load_from_disk(str(folder))
    except Exception as error:  # damaged files raise various errors of json, pyarrow and datasets
        raise InputError(f"dataset: {folder}: cannot be read as a saved data set ({error}); save it again") from error
    if isinstance(dataset, DatasetDict):
        if split not in dataset:
            raise InputError(f"dataset: {folder}: holds no split {split}; it has {', '.join(dataset)}")
        dataset = dataset[split]
    return dataset.with_format(None)


def load_from_hub(dataset: DatasetArguments) -> Dataset:
    repository, revision = split_revision(join_dataset_revision(dataset.path, dataset.revision))
    try:
        rows = load_dataset(repository, dataset.name, split=dataset.split, revision=revision, num_proc=dataset.num_proc)
    except (DatasetsError, ValueError, OSError, RuntimeError) as error:  # RuntimeError: it has a loading script
        raise InputError(f"dataset.path: {dataset.path}: {error}") from error
    if revision is not None:
        check_commit(dataset, revision)
    return rows


def check_commit(dataset: DatasetArguments, revision: str) -> None:
    """Raises InputError if `datasets` may have read another revision than the one in the args.

    Without a network, `datasets` reads the version it prepared last, whatever the revision is. Only a full commit id
    can be compared with that version.
    """
    if is_commit(revision):
        commit = find_commit(dataset)
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


def find_commit(dataset: DatasetArguments) -> str | None:
    """The commit that `load_dataset` reads for these arguments; None if it is unknown."""
    repository, revision = split_revision(join_dataset_revision(dataset.path, dataset.revision))
    commit = load_dataset_builder(repository, dataset.name, revision=revision).hash
    return commit if is_commit(commit) else None
