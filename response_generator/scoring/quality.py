"""How good a classifier is on held-out texts that people have labeled, and the file that says so beside its weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.sparse import csr_array
from scipy.stats import binomtest

from response_generator.runs import atomic_files
from response_generator.scoring.classifier_files import find_file, read_file

QUALITY_FILE = "quality.json"
CONFIDENCE_LEVEL = 0.95
NUM_RESAMPLES = 1_000
NUM_PROBABILITY_BINS = 15  # as Guo et al. 2017 have
CONFIG = ConfigDict(extra="forbid", strict=True)

Share = Annotated[float, Field(ge=0, le=1)]
Estimate = tuple[Share, Share, Share]  # value, and the bounds of its 95 % interval
Confusion = tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]


@dataclass(frozen=True)
class LabelQuality:
    """How well one label is recognized in a data set.

    count: texts with the label. recall, with its 95 % interval of Clopper and Pearson: None without such a text.
    precision: None where the label is never predicted. f1: None without either.
    """

    label: str
    count: int
    recall: Estimate | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True, config=CONFIG)
class DatasetQuality:
    """What was measured on one data set.

    confusion: number of texts by the people's label (rows) and the predicted label (columns), in the order of the
    classifier's labels. calibration_error: expected calibration error. macro_recall, macro_f1: means over the labels
    that the texts have.
    """

    confusion: Confusion
    calibration_error: Share
    macro_recall: Estimate
    macro_f1: Estimate
    accuracy: Estimate

    @property
    def texts(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def majority_accuracy(self) -> float:
        """The accuracy of answering every text with the most frequent label."""
        return max(map(sum, self.confusion)) / self.texts


@dataclass(frozen=True, config=CONFIG)
class ClassifierQuality:
    """labels: of the classifier, in the order of its class ids. data_sets: by name; the first one is the main one."""

    labels: tuple[str, ...]
    data_sets: Annotated[dict[str, DatasetQuality], Field(min_length=1)]

    def __post_init__(self):
        for name, each in self.data_sets.items():
            sizes = {len(each.confusion), *map(len, each.confusion)}
            if sizes != {len(self.labels)} or each.texts == 0:
                raise ValueError(f"confusion of {name}: needed: texts, and a row and a column for each label")

    def measure_labels(self, data_set: str) -> list[LabelQuality]:
        """How well each label is recognized in the texts of a data set."""
        confusion = np.array(self.data_sets[data_set].confusion)
        right, counts, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
        return [
            LabelQuality(
                label,
                int(counts[number]),
                estimate_share(int(right[number]), int(counts[number])) if counts[number] else None,
                float(right[number] / predicted[number]) if predicted[number] else None,
                float(2 * right[number] / (counts[number] + predicted[number]))
                if counts[number] + predicted[number]
                else None,
            )
            for number, label in enumerate(self.labels)
        ]


def measure_dataset(gold: np.ndarray, probabilities: np.ndarray, rows: np.ndarray, seed: int) -> DatasetQuality:
    """Compares the predictions for texts with the labels that people gave them.

    The intervals are percentiles of bootstrap resamples of the rows, each with all of its texts: the turns of one
    dialogue resemble each other. A resample in which a label has no text averages over the others. Where all resamples
    are the same, as with an accuracy of 1, that of the accuracy is the exact one of Clopper and Pearson.

    Args:
        gold: number of the label of each text, (texts,). probabilities: (texts, labels). rows: number of the row that
            each text stands in, (texts,): of a dialogue, or of the text itself.
        seed: of the resamples.
    """
    labels = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    _, row_numbers = np.unique(rows, return_inverse=True)
    cells = csr_array((np.ones(len(gold)), (row_numbers, gold * labels + predicted)), dtype=float)
    cells.resize(row_numbers.max() + 1, labels**2)
    confusion = cells.sum(axis=0).reshape(labels, labels).astype(int)
    averages = compute_averages(confusion[None])
    resampled = compute_averages(resample(cells, seed).reshape(-1, labels, labels))
    bounds = {
        name: np.quantile(values, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2]).tolist()
        for name, values in resampled.items()
    }
    estimates = {name: (float(averages[name][0]), *bounds[name]) for name in averages}
    if len(set(resampled["accuracy"])) == 1:
        estimates["accuracy"] = estimate_share(int(confusion.trace()), len(gold))
    return DatasetQuality(
        tuple(map(tuple, confusion.tolist())), compute_calibration_error(gold, probabilities), **estimates
    )


def resample(cells: csr_array, seed: int) -> np.ndarray:
    """Sums of the rows of `cells` over bootstrap resamples of them, (resamples, columns)."""
    generator = np.random.default_rng(seed)
    count = cells.shape[0]
    draws = (generator.integers(count, size=count) for _ in range(NUM_RESAMPLES))
    return np.stack([np.bincount(drawn, minlength=count) @ cells for drawn in draws])


def compute_averages(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """`{name: (confusions,)}` of the averages in `DatasetQuality`.

    Args:
        confusions: (confusions, labels, labels), texts by the people's label and the predicted one.
    """
    right = np.diagonal(confusions, axis1=1, axis2=2)
    counts, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    occurs = counts > 0
    return {
        "accuracy": right.sum(axis=1) / counts.sum(axis=1),
        "macro_recall": np.mean(right / np.maximum(counts, 1), axis=1, where=occurs),
        "macro_f1": np.mean(2 * right / np.maximum(counts + predicted, 1), axis=1, where=occurs),
    }


def estimate_share(count: int, total: int) -> Estimate:
    """A share with its interval of Clopper and Pearson."""
    interval = binomtest(count, total).proportion_ci(CONFIDENCE_LEVEL, method="exact")
    return count / total, float(interval.low), float(interval.high)


def compute_calibration_error(gold: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error (Guo et al., "On Calibration of Modern Neural Networks", 2017): how far, on average
    over the texts, the accuracy is from the probability of the predicted label, in bins of this probability.

    Args:
        gold: (texts,). probabilities: (texts, labels).
    """
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    bins = np.ceil(confidence * NUM_PROBABILITY_BINS).astype(int)  # a bin holds its upper bound
    return float(np.abs(np.bincount(bins, is_right - confidence)).sum() / len(gold))


def list_metrics(quality: ClassifierQuality) -> dict[str, float | int]:
    """All figures as `NAME/METRIC`, `NAME/METRIC/low` and `NAME/METRIC/high`; those of a label as `NAME/METRIC/LABEL`.
    What has no value is left out."""
    metrics: dict[str, float | int] = {}
    for name, data in quality.data_sets.items():
        metrics[f"{name}/texts"] = data.texts
        metrics[f"{name}/majority_accuracy"] = data.majority_accuracy
        metrics[f"{name}/calibration_error"] = data.calibration_error
        for metric in ("accuracy", "macro_recall", "macro_f1"):
            value, low, high = getattr(data, metric)
            metrics |= {f"{name}/{metric}": value, f"{name}/{metric}/low": low, f"{name}/{metric}/high": high}
        for each in quality.measure_labels(name):
            recall = each.recall and each.recall[0]
            found = {"count": each.count, "recall": recall, "precision": each.precision, "f1": each.f1}
            metrics |= {f"{name}/{key}/{each.label}": value for key, value in found.items() if value is not None}
    return metrics


def write_quality(quality: ClassifierQuality, folder: Path) -> None:
    text = json.dumps(asdict(quality), ensure_ascii=False)
    atomic_files.atomic_write(folder / QUALITY_FILE, f"{text}\n".encode())


def keep_quality(quality: ClassifierQuality | None, folder: Path) -> None:
    """Writes it beside what the classifier has labeled; without it, removes that of an earlier classifier."""
    if quality is None:
        (folder / QUALITY_FILE).unlink(missing_ok=True)
    else:
        write_quality(quality, folder)


def read_quality(model: str) -> ClassifierQuality | None:
    """What was measured when a classifier was trained; None where nothing is known of it.

    Args:
        model: hub id or folder.

    Raises:
        InputError: when the file is damaged.
    """
    file = find_file(model, QUALITY_FILE)
    return read_file(file, ClassifierQuality) if file else None
