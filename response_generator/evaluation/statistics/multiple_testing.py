"""Corrects p-values for the number of differences that are looked at.

Two equal models seem to differ in one of a dozen metrics in every fourth evaluation (docs/evaluation.md).
"""

from dataclasses import replace

import numpy as np

from response_generator.evaluation.metric import Metric
from response_generator.evaluation.statistics.estimates import Estimate


def correct_differences(
    differences: dict[str, dict[str, Estimate]], metrics: dict[str, Metric]
) -> dict[str, dict[str, Estimate]]:
    """The differences of all models, with `p_corrected` where the conclusions may speak of the metric. Its own p-value
    is kept where it is that of a test."""
    places = [
        (model, name)
        for model, found in differences.items()
        for name, each in found.items()
        if metrics[name].carries_conclusions and each.p is not None
    ]
    corrected = dict(zip(places, correct_p_values([differences[model][name].p for model, name in places]), strict=True))
    return {
        model: {
            name: replace(
                each, p=each.p if metrics[name].paired_test else None, p_corrected=corrected.get((model, name))
            )
            for name, each in found.items()
        }
        for model, found in differences.items()
    }


def correct_p_values(p_values: list[float]) -> list[float]:
    """Holm (1979): with probability 0.95, none of several true hypotheses has a corrected p-value below 0.05."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(np.array(p_values)[order] * factors), 1)
    return corrected.tolist()
