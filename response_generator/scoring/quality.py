"""How good a classifier is on texts that people have labeled, read from the file beside its weights."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from scipy.stats import binomtest

from response_generator.errors import InputError

QUALITY_FILE = "quality.json"
CONFIG = ConfigDict(extra="forbid")

Share = Annotated[float, Field(ge=0, le=1)]
Estimate = tuple[Share, Share, Share]  # value, and the bounds of its 95 % interval


@dataclass(frozen=True)
class LabelQuality:
    """recall: with its interval of Clopper and Pearson; None without a text with the label. precision: None where the
    label is never predicted."""

    label: str
    count: int
    recall: Estimate | None
    precision: float | None


@dataclass(frozen=True, config=CONFIG)
class DatasetQuality:
    """confusion: number of texts by the people's label (rows) and the predicted one (columns)."""

    confusion: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]
    calibration_error: Share
    macro_recall: Estimate
    macro_f1: Estimate
    accuracy: Estimate


@dataclass(frozen=True, config=CONFIG)
class ClassifierQuality:
    labels: tuple[str, ...]
    data_sets: dict[str, DatasetQuality]

    def measure_labels(self, data_set: str) -> list[LabelQuality]:
        confusion = np.array(self.data_sets[data_set].confusion)
        found = zip(self.labels, confusion.diagonal(), confusion.sum(1), confusion.sum(0), strict=True)
        return [
            LabelQuality(
                label,
                int(count),
                estimate_share(int(right), int(count)) if count else None,
                float(right / predicted) if predicted else None,
            )
            for label, right, count, predicted in found
        ]


def estimate_share(count: int, total: int) -> Estimate:
    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return count / total, float(interval.low), float(interval.high)


def read_quality(model: str) -> ClassifierQuality | None:
    """What was measured when a classifier was trained; None where nothing is known of it.

    Args:
        model: hub id or folder.

    Raises:
        InputError: when the file is damaged.
    """
    file = Path(model) / QUALITY_FILE
    if not file.is_file():
        return None
    try:
        return TypeAdapter(ClassifierQuality).validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{file}: {error.errors()[0]['msg']}; write it again") from error
