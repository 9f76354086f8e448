"""How often two models follow the target emotion at equal length: a longer reply has more room for the emotion's words.

Every training run of one model is compared with every run of the other, reply by reply: the same prompt, the same
sample. A model's value in one of its runs is the mean over the other model's runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from response_generator.evaluation.columns import follows_target
from response_generator.evaluation.metric import Metric
from response_generator.evaluation.predictions_file import EMOTION_LIST, Prediction
from response_generator.evaluation.statistics import intervals
from response_generator.evaluation.statistics.estimates import (
    Estimate,
    Measurements,
    estimate_difference,
    estimate_metrics,
    resample_metrics,
)
from response_generator.evaluation.statistics.metric_totals import NO_LABELS, MetricTotals
from response_generator.evaluation.statistics.training_seeds import widen_estimate
from response_generator.scoring.words import list_words

Runs = Sequence[list[Prediction]]  # the rows of each training run of a model, in the order of prompts and samples

MIN_PROMPTS_ON_A_SIDE = 10


@dataclass
class LengthComparison:
    """Estimates by metric: of each of two models beside the other one, and of the second minus the first."""

    first: dict[str, Estimate] = field(default_factory=dict)
    second: dict[str, Estimate] = field(default_factory=dict)
    differences: dict[str, Estimate] = field(default_factory=dict)


def compare_lengths(
    metrics: dict[str, Metric], first: Runs, second: Runs, resamples: int, seed: int
) -> LengthComparison:
    """The pairwise ones among `metrics`; the ratio of two sums is that of replies cut to equal length."""
    found = LengthComparison()
    for name, metric in metrics.items():
        if not metric.is_pairwise:
            continue
        if metric.numerator:
            estimates = compare_at_equal_length(metric, first, second, resamples, seed)
            found.first[name], found.second[name], found.differences[name] = estimates
        elif (difference := control_length(metric, first, second, resamples, seed)) is not None:
            found.differences[name] = difference
    return found


def compare_at_equal_length(
    metric: Metric, first: Runs, second: Runs, resamples: int, seed: int
) -> tuple[Estimate, Estimate, Estimate]:
    """The share of replies that follow the target when the two replies to a prompt are cut off after as many words as
    the shorter one has: of the first model, of the second one, and the difference."""
    pairs = [cut_to_equal_length(one, other) for one in first for other in second]
    totals = [
        [MetricTotals.of(rows, NO_LABELS, {metric.name: metric}) for rows in of_model]
        for of_model in zip(*pairs, strict=True)
    ]
    replicates = resample_metrics(dict(enumerate(totals)), resamples, seed)
    measured, values = [], []
    for number, found in enumerate(totals):
        shares = np.concatenate([each.compute(np.ones((1, each.prompts)))[metric.name] for each in found])
        values.append(shares.reshape(len(first), len(second)))
        measured.append(Measurements(MetricTotals.mean(found), {metric.name: shares}, replicates[number], {}))
    prompts = measured[0].totals.prompts
    of_models = [
        widen_estimate(estimate_metrics({metric.name: metric}, model)[metric.name], prompts, by_run(shares), 0.0)
        for model, shares in zip(measured, values, strict=True)
    ]
    difference = estimate_difference(metric, *measured, seed)
    return *of_models, widen_estimate(difference, prompts, by_run(values[1] - values[0]), -1.0)


def cut_to_equal_length(one: list[Prediction], other: list[Prediction]) -> tuple[list[Prediction], list[Prediction]]:
    """Both runs' rows with the emotion that was predicted for as many first words as the shorter reply has. A reply
    without words counts as one word."""
    cut: tuple[list[Prediction], list[Prediction]] = ([], [])
    for rows in zip(one, other, strict=True):
        words = min(len(row[EMOTION_LIST]) for row in rows)
        for row, kept in zip(rows, cut, strict=True):
            kept.append(row | {"predicted_emotion": row[EMOTION_LIST][words - 1]})
    return cut


def control_length(metric: Metric, first: Runs, second: Runs, resamples: int, seed: int) -> Estimate | None:
    """The difference in followed targets at equal length, by regression; None where one model's replies are shorter in
    fewer than MIN_PROMPTS_ON_A_SIDE prompts, so that equal length lies at the edge of what was seen, or outside.

    As in length-controlled AlpacaEval (Dubois et al. 2024, arXiv 2404.04475), for a paired outcome of 0 or 1: ordinary
    least squares of the prompt's difference in the share of replies that follow the target, on tanh(difference in words
    / its standard deviation). The intercept is the difference at equal length.
    """
    pairs = [measure_prompts(one, other) for one in first for other in second]
    prompts = len(pairs[0][0])
    if any(min((length <= 0).sum(), (length >= 0).sum()) < MIN_PROMPTS_ON_A_SIDE for length, _ in pairs):
        return None
    values = np.concatenate([fit_intercepts(*pair, np.ones((1, prompts))) for pair in pairs])
    value = values.mean()
    differing = int((np.mean([followed for _, followed in pairs], axis=0) != 0).sum())
    interval = None
    if prompts >= intervals.MIN_PROMPTS and differing >= intervals.MIN_DIFFERING_PROMPTS:
        blocks = [
            np.mean([fit_intercepts(*pair, weights) for pair in pairs], axis=0)
            for weights in intervals.draw_resamples(prompts, resamples, seed)
        ]
        interval = intervals.percentile_interval(
            np.concatenate(blocks).clip(-1, 1), intervals.expand_tail(prompts, parameters=2)
        )
    p = intervals.interval_p_value(value, interval) if metric.carries_conclusions else None
    runs = by_run(values.reshape(len(first), len(second)))
    return widen_estimate(Estimate.of(value, interval, p), prompts, runs, -1.0)


def measure_prompts(one: list[Prediction], other: list[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Of each prompt, the other run minus the one: tanh of the standardized number of words, not centered, so that 0 is
    equal length; and the share of replies that follow the target. Each (prompts,), means over the samples."""
    prompts = len({row["index"] for row in one})

    def subtract(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return (after.astype(float) - before).reshape(prompts, -1).mean(1)

    words = subtract(*(np.array([len(list_words(row["response"])) for row in rows]) for rows in (one, other)))
    followed = subtract(*(follows_target(rows) for rows in (one, other)))
    return np.tanh(words / (words.std() or 1.0)), followed


def fit_intercepts(length: np.ndarray, followed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intercept of ordinary least squares of `followed` on `length`, once for each row of `weights`.

    Args:
        length, followed: (prompts,).
        weights: how often each prompt counts, (resamples, prompts).

    Returns:
        (resamples,); nan where all prompts that count have the same difference in length, and it is not 0.
    """
    columns = np.stack([np.ones_like(length), length, followed, length**2, length * followed], axis=1)
    total, sum_l, sum_f, sum_ll, sum_lf = (weights @ columns).T
    spread = total * sum_ll - sum_l**2
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes_differ = np.where(spread > 1e-9 * total**2, (sum_ll * sum_f - sum_l * sum_lf) / spread, np.nan)
    return np.where(sum_ll == 0, sum_f / total, slopes_differ)


def by_run(values: np.ndarray) -> list[np.ndarray]:
    """Of a value for each run of one model (rows) with each run of the other (columns), the means of each run."""
    return [values.mean(1), values.mean(0)]
