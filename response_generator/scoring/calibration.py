"""Probabilities of a classifier that are right as often as they say: softmax(scale * logits + biases).

Without biases this is temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017). The biases
say how frequent the labels are taken to be.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from response_generator.config.model_files import CALIBRATION_FILE
from response_generator.errors import InputError
from response_generator.runs import atomic_files
from response_generator.scoring.classifier_files import find_file, read_file

SCALES = (0.01, 100.0)  # without bounds, labels that are always right would have an infinite scale
MAX_BIAS = 100.0
GRADIENT_TOLERANCE = 1e-9

Scale = Annotated[float, Field(ge=SCALES[0], le=SCALES[1])]
Bias = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Calibration:
    """scale: of all logits. biases: of each label, in the order of the classifier's labels."""

    scale: Scale
    biases: dict[str, Bias]

    def compute_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """
        Args:
            logits: (texts, labels).
        """
        return softmax(self.scale * logits + list(self.biases.values()), axis=1)


def fit_calibration(logits: np.ndarray, gold: np.ndarray, names: list[str], label_balance: float) -> Calibration:
    """Fits scale and biases by maximum likelihood, which is convex in both, then shifts the biases from the frequencies
    of the labels in these texts toward equal ones.

    Args:
        logits: (texts, labels). gold: number of the label of each text, (texts,); every label occurs.
        names: of the labels.
        label_balance: 0: labels as frequent as in these texts; 1: all equally frequent.
    """
    texts, labels = logits.shape
    logits = logits.astype(np.float64)
    is_gold = np.eye(labels)[gold]

    def compute_loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scores = log_softmax(parameters[0] * logits + parameters[1:], axis=1)
        slopes = np.exp(scores) - is_gold
        gradient = np.concatenate([[(slopes * logits).sum()], slopes.sum(axis=0)])
        return -scores[is_gold > 0].mean(), gradient / texts

    bounds = [SCALES] + [(-MAX_BIAS, MAX_BIAS)] * labels
    start = np.concatenate([[1.0], np.zeros(labels)])
    options = {"ftol": 0.0, "gtol": GRADIENT_TOLERANCE, "maxiter": 10_000}
    scale, *biases = minimize(compute_loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    shifted = np.array(biases) - label_balance * np.log(is_gold.mean(axis=0))
    shifted -= shifted.mean()  # softmax does not depend on it
    return Calibration(float(scale), dict(zip(names, shifted.tolist(), strict=True)))


def write_calibration(calibration: Calibration, folder: Path) -> None:
    atomic_files.atomic_write(folder / CALIBRATION_FILE, f"{json.dumps(asdict(calibration), indent=2)}\n".encode())


def read_calibration(model: str, names: list[str]) -> Calibration | None:
    """The calibration of a classifier, with its biases in the order of `names`; None where it has none.

    Args:
        model: hub id or folder.
        names: the classifier's labels.

    Raises:
        InputError: when the file is damaged, or has other labels.
    """
    file = find_file(model, CALIBRATION_FILE)
    if file is None:
        return None
    calibration = read_file(file, Calibration)
    if set(calibration.biases) != set(names):
        raise InputError(
            f"{file}: biases: got {', '.join(calibration.biases) or 'none'}; needed: one of each label of the "
            f"classifier: {', '.join(names)}"
        )
    return Calibration(calibration.scale, {name: calibration.biases[name] for name in names})
