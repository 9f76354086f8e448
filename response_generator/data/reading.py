"""Reads the data sets of a run, and reports what is wrong in all of them together."""

from collections import Counter
from typing import Any

from response_generator.config.dataset_schema import DatasetArguments, PairDatasetArguments
from response_generator.data.datasets import Skipped, read_dialogues, read_pairs
from response_generator.errors import InputError


def read_datasets(*datasets: DatasetArguments | None) -> list[tuple[list[Any], Skipped]]:
    """Reads pairs or dialogues, as the class of the arguments says; of None, nothing.

    Returns:
        For each data set its rows, and the number of its bad rows that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of all data sets, see `read_pairs`.
    """
    found: list[tuple[list[Any], Skipped]] = []
    errors: list[str] = []
    for dataset in datasets:
        read = read_pairs if isinstance(dataset, PairDatasetArguments) else read_dialogues
        try:
            found.append(read(dataset) if dataset else ([], Counter()))
        except InputError as error:
            errors += error.messages
    if errors:
        raise InputError(*errors)
    return found
