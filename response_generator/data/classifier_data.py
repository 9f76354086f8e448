"""All texts of a run that trains a classifier: to learn from, to calibrate on and to measure on. Imports no torch."""

import hashlib
import json
from dataclasses import dataclass

from response_generator.config.source_list import list_sources
from response_generator.config.training_schema import ClassifierArguments
from response_generator.data.datasets import Skipped
from response_generator.data.labeled_texts import Example, ExampleRow, check_counts, count_labels, list_examples
from response_generator.data.reading import count_skipped, read_datasets


@dataclass(frozen=True)
class ClassifierData:
    """train: rows of each data set to learn from. weights: of these data sets. held_out: rows of each data set to
    measure on, by name; the first one is the main one. calibration: empty without one. skipped: bad rows by the key of
    their data set."""

    train: list[list[ExampleRow]]
    weights: list[float]
    held_out: dict[str, list[ExampleRow]]
    calibration: list[ExampleRow]
    skipped: dict[str, Skipped]

    @property
    def train_rows(self) -> list[ExampleRow]:
        return [row for rows in self.train for row in rows]

    def list_train_examples(self) -> tuple[list[Example], list[float]]:
        """The texts to learn from, and the weight of the data set of each."""
        examples = [list_examples(rows) for rows in self.train]
        weights = [weight for each, weight in zip(examples, self.weights, strict=True) for _ in each]
        return [example for each in examples for example in each], weights

    def digest(self) -> str:
        """A hash of what is learned from, by which a checkpoint recognizes its data."""
        return hashlib.sha256(json.dumps(self.list_train_examples()).encode("utf-8")).hexdigest()


def read_classifier_data(args: ClassifierArguments) -> ClassifierData:
    """
    Raises:
        InputError: with the errors of all data sets, or when no text to learn from, or to calibrate on, has one of the
            labels.
    """
    sources = {source.key: source.data for source in list_sources(args) if source.data}
    found = dict(zip(sources, read_datasets(args.label_set, *sources.values()), strict=True))
    rows = {key: each for key, (each, _) in found.items()}
    data = ClassifierData(
        [rows[f"datasets.{number}"] for number in range(len(args.datasets))],
        [dataset.weight for dataset in args.datasets],
        {name: rows[f"eval_datasets.{name}"] for name in args.eval_datasets},
        rows.get("calibration.dataset", []),
        {key: skipped for key, (_, skipped) in found.items()},
    )
    check_counts("datasets", count_labels(list_examples(data.train_rows), args.label_set))
    if args.calibration:
        check_counts("calibration.dataset", count_labels(list_examples(data.calibration), args.label_set))
    return data


def list_skipped_metrics(args: ClassifierArguments, data: ClassifierData) -> dict[str, int]:
    """The metrics of `reading.count_skipped`, of all data sets."""
    metrics: dict[str, int] = {}
    for source in list_sources(args):
        if source.data:
            metrics |= count_skipped(source.key, source.data, data.skipped[source.key])
    return metrics
