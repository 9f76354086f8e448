"""Reads dialogues, pairs and texts with labels, checks every row before a model is loaded, and reports all errors."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from response_generator.config import strict_json
from response_generator.config.dataset_schema import (
    DatasetArguments,
    LabeledDatasetArguments,
    PairDatasetArguments,
)
from response_generator.data.datasets import (
    FIT_COLUMNS,
    LABEL_COLUMNS,
    BadRow,
    Dialogue,
    Pair,
    Skipped,
    UnknownLabel,
    list_unknown_labels,
    parse_dialogue,
    parse_pair,
)
from response_generator.data.labeled_texts import ExampleRow, parse_text, parse_turns
from response_generator.data.row_formats import (
    MESSAGE_COLUMNS,
    TEXT_COLUMNS,
    holds_texts,
    normalize_dialogue,
    normalize_pair,
    normalize_text,
)
from response_generator.errors import MAX_SHOWN_ERRORS, InputError, raise_row_errors
from response_generator.labels import Labels

SKIPPED_ROWS = "skipped_rows"  # part of metric names


@dataclass(frozen=True)
class RowForm:
    """How the rows of a data set are read. columns: those that are used, of a normalized row."""

    columns: tuple[str, ...]
    normalize: Callable[[Any, dict[str, str]], dict[str, Any]]
    parse: Callable[[int, dict[str, Any], Labels], Any]


SCORE_COLUMNS = ("chosen_score", "rejected_score")
PAIRS = RowForm((*MESSAGE_COLUMNS, *SCORE_COLUMNS, *LABEL_COLUMNS, *FIT_COLUMNS), normalize_pair, parse_pair)
DIALOGUES = RowForm(("prompt",), normalize_dialogue, parse_dialogue)
TURNS = RowForm(("prompt",), normalize_dialogue, parse_turns)  # of a dialogue
TEXTS = RowForm(TEXT_COLUMNS, normalize_text, parse_text)


def read_datasets(labels: Labels, *datasets: DatasetArguments | None) -> list[tuple[list[Any], Skipped]]:
    """Reads pairs, dialogues or texts with labels, as the class of the arguments says; of None, nothing.

    Returns:
        For each data set its rows, and the number of its bad rows that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of all data sets, see `read_pairs`.
    """
    found: list[tuple[list[Any], Skipped]] = []
    errors: list[str] = []
    for dataset in datasets:
        read = find_reader(dataset)
        try:
            found.append(read(dataset, labels) if dataset else ([], Counter()))
        except InputError as error:
            errors += error.messages
    if errors:
        raise InputError(*errors)
    return found


def find_reader(dataset: DatasetArguments | None) -> Callable[[DatasetArguments, Labels], tuple[list[Any], Skipped]]:
    if isinstance(dataset, PairDatasetArguments):
        return read_pairs
    return read_labeled_texts if isinstance(dataset, LabeledDatasetArguments) else read_dialogues


def read_dialogues(dataset: DatasetArguments, labels: Labels) -> tuple[list[Dialogue], Skipped]:
    """Reads evaluation rows (see `Dialogue`) and counts the bad rows that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of the first bad rows, unless they are skipped; or when no row can be used.
    """
    return parse_rows(dataset, labels, lambda row: DIALOGUES)


def read_pairs(dataset: DatasetArguments, labels: Labels) -> tuple[list[Pair], Skipped]:
    """Reads preference rows (see `Pair`) and counts the bad rows that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of the first bad rows, unless they are skipped; or when no row can be used.
    """
    return parse_rows(dataset, labels, lambda row: PAIRS)


def read_labeled_texts(dataset: DatasetArguments, labels: Labels) -> tuple[list[ExampleRow], Skipped]:
    """Reads dialogues whose turns have labels, or texts with labels, as the first row decides that is one of the two;
    counts the bad rows that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of the first bad rows, unless they are skipped; or when no row can be used.
    """
    return parse_rows(dataset, labels, lambda row: TEXTS if holds_texts(row, dataset.columns) else TURNS)


def parse_rows(
    dataset: DatasetArguments,
    labels: Labels,
    find_form: Callable[[Any], RowForm],
) -> tuple[list[Any], Skipped]:
    """
    Args:
        find_form: returns the form of the rows; asked with one row after the other, until it raises no BadRow.
    """
    from response_generator.data import raw_rows  # imports pyarrow, which takes longer than checking the args

    rows, errors, skipped, unknown, form = [], [], Counter(), Counter(), None
    for index, (place, row) in enumerate(raw_rows.read_rows(dataset)):
        try:
            form = form or find_form(row)
            row = form.normalize(row, dataset.columns)
            check_values(row, form.columns)
            rows.append(form.parse(index, row, labels))
        except BadRow as error:
            errors.append((place, error))
            skipped[error.reason] += 1
            if isinstance(error, UnknownLabel):
                unknown.update(list_unknown_labels(row, labels))
    if not rows and not errors:
        raise InputError(f"{dataset.path} (split {dataset.split}): holds no rows")
    if not rows or not dataset.skip_bad_rows:
        messages = [*describe_unknown_labels(dataset.path, unknown), *describe_bad_rows(errors, skipped)]
        raise_row_errors(dataset.path, messages, "kinds of bad rows")
    return rows, skipped


def check_values(row: dict[str, Any], columns: Collection[str]) -> None:
    """Raises BadRow when a column that is used has a value that JSON cannot hold."""
    unusable = strict_json.find_unusable({key: row[key] for key in columns if key in row})
    if unusable:
        raise BadRow(": ".join(unusable[0]))


def describe_unknown_labels(path: str, counts: Counter) -> list[str]:
    """A line with the number of rows that have each label that is unknown; none without such labels."""
    if not counts:
        return []
    found = ", ".join(f"{name!r} (rows: {count})" for name, count in counts.most_common())
    return [f"{path}: labels that are not in the args: {found}; add them to labels, or change the rows"]


def describe_bad_rows(errors: list[tuple[str, BadRow]], counts: Skipped) -> list[str]:
    """A line for each bad row; where there are many, one for the first row of each reason, with the number of others.

    Args:
        counts: of the rows by reason.
    """
    if len(errors) <= MAX_SHOWN_ERRORS:
        return [f"{place} {error}" for place, error in errors]
    first = {error.reason: (place, error) for place, error in reversed(errors)}
    return [
        f"{first[reason][0]} {first[reason][1]}" + (f" (and {count - 1} more rows like this)" if count > 1 else "")
        for reason, count in counts.most_common()
    ]


def count_skipped(key: str, dataset: DatasetArguments, skipped: Skipped) -> dict[str, int]:
    """Returns the metrics `key/skipped_rows` (total) and `key/skipped_rows/REASON`; none without `skip_bad_rows`."""
    if not dataset.skip_bad_rows:
        return {}
    name = f"{key}/{SKIPPED_ROWS}"
    return {name: skipped.total()} | {f"{name}/{reason}": count for reason, count in sorted(skipped.items())}
