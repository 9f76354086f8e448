"""Values with their intervals: of one model, of the difference between two, and of held-out pairs."""

from dataclasses import dataclass

import numpy as np

from response_generator.evaluation.metric import Metric
from response_generator.evaluation.statistics import intervals
from response_generator.evaluation.statistics.distinct import ORDERS
from response_generator.evaluation.statistics.intervals import Interval, Jackknifed
from response_generator.evaluation.statistics.metric_totals import MetricTotals


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and for a difference the p-value of "no difference".

    p is for this difference alone. p_corrected allows for all differences that the conclusions may speak of.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_corrected: float | None = None

    @classmethod
    def of(cls, value: float, interval: Interval | None = None, p: float | None = None) -> "Estimate":
        return cls(float(value), *(interval or (None, None)), p)


@dataclass(frozen=True)
class Measurements:
    """What was measured of one model, from which its estimates and its differences follow.

    totals: of each prompt, the means over training runs. values: `{metric: (runs,)}`, the value of each run; nan where
    there is nothing to divide by, for example the recall of an absent target. replicates: `{metric: (resamples,)}`, of
    each bootstrap resample the mean over the runs. jackknifed: by metric.
    """

    totals: MetricTotals
    values: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray]
    jackknifed: dict[str, Jackknifed]

    def mean_over_runs(self, name: str) -> float:
        """Over the runs that have a value."""
        values = self.values[name]
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan


def resample_metrics(runs: dict[str, list[MetricTotals]], count: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """`{model: {metric: (count,)}}`, means over the runs of a model; a resample draws the same prompts for all runs."""
    prompts = next(iter(runs.values()))[0].prompts
    blocks: dict[str, list[dict[str, np.ndarray]]] = {model: [] for model in runs}
    for weights in intervals.draw_resamples(prompts, count, seed):
        for model, each in runs.items():
            found = [run.compute(weights) for run in each]
            blocks[model].append({name: np.mean([values[name] for values in found], axis=0) for name in found[0]})
    return {
        model: {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        for model, found in blocks.items()
    }


def estimate_metrics(metrics: dict[str, Metric], model: Measurements) -> dict[str, Estimate]:
    """One model's metrics; those with nothing to divide by, such as recall of an absent target, are left out."""
    estimates = {}
    for name, metric in metrics.items():
        value = model.mean_over_runs(name)
        if not np.isfinite(value):
            continue
        prompts = model.totals.count_prompts(name)
        if metric.is_proportion and (prompts < intervals.MIN_PROMPTS or value in (0.0, 1.0)):
            counted = model.totals.denominators[name]
            counted = counted.sum() / counted.max()  # prompts; of one, only the replies with one target may count
            interval = intervals.clopper_pearson_interval(value * counted, counted)
        elif prompts < intervals.MIN_PROMPTS:
            interval = None
        elif name in model.jackknifed:
            interval = intervals.jackknife_interval(value, model.jackknifed[name].leave_one_out)
        else:
            interval = intervals.percentile_interval(model.replicates[name])
        estimates[name] = Estimate.of(value, interval)
    return estimates


def estimate_difference(metric: Metric, first: Measurements, second: Measurements, seed: int) -> Estimate:
    """The second model's metric minus the first one's, on the same prompts in every resample."""
    name = metric.name
    value = second.mean_over_runs(name) - first.mean_over_runs(name)
    is_small = min(model.totals.count_prompts(name) for model in (first, second)) < intervals.MIN_PROMPTS
    if name in first.jackknifed:
        gained = second.jackknifed[name].leave_one_out - first.jackknifed[name].leave_one_out
        interval = intervals.jackknife_interval(value, gained)
    else:
        interval = intervals.percentile_interval(second.replicates[name] - first.replicates[name])
    if name not in ORDERS:  # other words in the same number of replies are no less of a difference
        differing = first.totals.count_differing_prompts(second.totals, name)
        is_small |= differing < intervals.MIN_DIFFERING_PROMPTS
    interval = None if is_small else interval
    counted, other_counted = (model.totals.denominators[name] for model in (first, second))
    # Precision is no paired share: each model predicts an emotion for other prompts.
    if not metric.is_proportion or not np.array_equal(counted, other_counted):
        p = intervals.interval_p_value(value, interval) if metric.carries_conclusions else None
        return Estimate.of(value, interval, p)
    gained = second.totals.numerators[name] - first.totals.numerators[name]
    by_prompt = (gained[counted > 0] / counted[counted > 0]).round(9)  # equal means differ in the last digit
    if is_small:
        interval = intervals.score_difference_interval(by_prompt)
    p = intervals.paired_p_value(by_prompt, seed) if metric.paired_test else None
    return Estimate.of(value, intervals.exact_difference_interval(by_prompt) or interval, p)


def estimate_preference(margins: np.ndarray, resamples: int, seed: int) -> dict[str, Estimate]:
    """How often, and by how much, the implicit reward prefers `chosen`; a margin of 0 does not count as preferred."""
    if not len(margins):
        return {}
    preferred = margins > 0
    shares, means = [], []
    for weights in intervals.draw_resamples(len(margins), resamples, seed):
        shares.append(weights @ preferred / len(margins))
        means.append(weights @ margins / len(margins))
    has_enough_pairs = len(margins) >= intervals.MIN_PROMPTS
    if not has_enough_pairs or preferred.all() or not preferred.any():
        interval = intervals.clopper_pearson_interval(int(preferred.sum()), len(preferred))
    else:
        interval = intervals.percentile_interval(np.concatenate(shares))
    mean_interval = intervals.percentile_interval(np.concatenate(means)) if has_enough_pairs else None
    quartiles = dict(zip(("p25", "median", "p75"), np.quantile(margins, (0.25, 0.5, 0.75)), strict=True))
    return {
        "reward_accuracy": Estimate.of(preferred.mean(), interval),
        "margin_mean": Estimate.of(margins.mean(), mean_interval),
        **{f"margin_{name}": Estimate.of(value) for name, value in quartiles.items()},
        "margin_sd": Estimate.of(margins.std()),
        "pairs": Estimate(len(margins)),
    }
