"""Intervals that hold the choice of prompts and of training seeds alike, for a recipe that was trained several times.

A bootstrap of three seeds would underestimate their variance by a third, and its percentiles are those of few values.
So the variance of the mean is the sum of two: that over prompts, from the interval over prompts, and that over seeds,
from the runs' values; and the quantile is that of a t-distribution with the degrees of freedom of Welch and
Satterthwaite (Satterthwaite 1946). The variance of a single reply is in both parts, which is slightly conservative.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import norm, t

from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.evaluation.statistics.intervals import TAIL


def widen_estimate(estimate: Estimate, prompts: int, runs: Sequence[np.ndarray], least: float = -np.inf) -> Estimate:
    """Widens the interval over prompts by the variation between runs, and clips it to what is possible; no interval
    where a run has no value.

    Args:
        estimate: with the interval over prompts, of the mean over runs, or of a difference of such means.
        prompts: that count in this metric.
        runs: the value of each run, (runs,), of one model, or of each of the two whose difference it is.
        least: bound of a proportion or of a difference of proportions; the other bound is 1. A corrected accuracy may
            itself lie outside.
    """
    parts = [(values.var(ddof=1) / len(values), len(values) - 1) for values in runs if len(values) > 1]
    if not parts or estimate.low is None:
        return clip_bounds(estimate, least)
    if any(np.isnan(values).any() for values in runs):
        return Estimate(estimate.value)  # undefined in one run, as the precision of an emotion that it never has
    halves = [find_half_width(side, parts, prompts) for side in get_sides(estimate)]
    p = None if estimate.p is None else find_p_value(estimate, parts, prompts)
    return clip_bounds(replace(estimate, low=estimate.value - halves[0], high=estimate.value + halves[1], p=p), least)


def clip_bounds(estimate: Estimate, least: float) -> Estimate:
    if estimate.low is None or not np.isfinite(least):
        return estimate
    low, high = np.clip((estimate.low, estimate.high), least, 1.0)
    return replace(estimate, low=float(low), high=float(high))


def get_sides(estimate: Estimate) -> tuple[float, float]:
    """Standard errors below and above the value, from an interval that need not be symmetric."""
    quantile = norm.ppf(1 - TAIL)
    return (estimate.value - estimate.low) / quantile, (estimate.high - estimate.value) / quantile


def find_half_width(prompt_error: float, parts: list[tuple[float, int]], prompts: int) -> float:
    error, freedom = combine_variances([(prompt_error**2, prompts - 1), *parts])
    return t.ppf(1 - TAIL, freedom) * error if error else 0.0


def find_p_value(estimate: Estimate, parts: list[tuple[float, int]], prompts: int) -> float:
    """Two-sided, of "no difference"."""
    toward_zero = get_sides(estimate)[0 if estimate.value > 0 else 1]
    error, freedom = combine_variances([(toward_zero**2, prompts - 1), *parts])
    return float(2 * t.sf(abs(estimate.value) / error, freedom)) if error else 1.0


def combine_variances(parts: list[tuple[float, int]]) -> tuple[float, float]:
    """Standard error of a sum of independent parts, and its degrees of freedom.

    Args:
        parts: variance and degrees of freedom of each.
    """
    total = sum(variance for variance, _ in parts)
    uncertainty = sum(variance**2 / max(freedom, 1) for variance, freedom in parts)
    return float(np.sqrt(total)), float(total**2 / uncertainty) if uncertainty else np.inf
