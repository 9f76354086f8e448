"""Values with their intervals: of one model, of the difference between two, and of held-out pairs."""

from dataclasses import dataclass

import numpy as np

from response_generator.evaluation import intervals
from response_generator.evaluation.intervals import Interval
from response_generator.evaluation.metric_totals import Distinct, MetricTotals
from response_generator.evaluation.metrics import Metric


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and for a tested difference the p-value of "no difference"."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @classmethod
    def of(cls, value: float, interval: Interval | None = None, p: float | None = None) -> "Estimate":
        return cls(float(value), *(interval or (None, None)), p)


def resample_metrics(totals: dict[str, MetricTotals], count: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """`{model: {metric: (count,)}}`; a resample draws the same prompts for all models."""
    prompts = next(iter(totals.values())).prompts
    blocks: dict[str, list[dict[str, np.ndarray]]] = {model: [] for model in totals}
    for weights in intervals.draw_resamples(prompts, count, seed):
        for model, each in totals.items():
            blocks[model].append(each.compute(weights))
    return {
        model: {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        for model, found in blocks.items()
    }


def estimate_metrics(
    metrics: dict[str, Metric],
    totals: MetricTotals,
    distinct: dict[str, Distinct],
    replicates: dict[str, np.ndarray],
) -> dict[str, Estimate]:
    """One model's metrics; those with nothing to divide by, such as recall of an absent target, are left out."""
    values = {name: float(found[0]) for name, found in totals.compute(np.ones((1, totals.prompts))).items()}
    values |= {name: each.value for name, each in distinct.items()}
    estimates = {}
    for name, metric in metrics.items():
        if not np.isfinite(values[name]):
            continue
        prompts = totals.count_prompts(name)
        if metric.is_proportion and (prompts < intervals.MIN_PROMPTS or values[name] in (0.0, 1.0)):
            counted = totals.denominators[name].sum()
            interval = intervals.clopper_pearson_interval(values[name] * counted, counted)
        elif prompts < intervals.MIN_PROMPTS:
            interval = None
        elif name in distinct:
            interval = intervals.jackknife_interval(values[name], distinct[name].leave_one_out)
            interval = intervals.clip_interval(interval, 0.0, 1.0)
        else:
            interval = intervals.percentile_interval(replicates[name])
        estimates[name] = Estimate.of(values[name], interval)
    return estimates


def estimate_difference(
    metric: Metric,
    pair: tuple[str, str],
    estimates: dict[str, dict[str, Estimate]],
    totals: dict[str, MetricTotals],
    distinct: dict[str, dict[str, Distinct]],
    replicates: dict[str, dict[str, np.ndarray]],
    seed: int,
) -> Estimate:
    """The second model's metric minus the first one's, on the same prompts in every resample."""
    first, second = pair
    name = metric.name
    value = estimates[second][name].value - estimates[first][name].value
    has_enough_prompts = min(totals[model].count_prompts(name) for model in pair) >= intervals.MIN_PROMPTS
    if name in distinct[first]:
        one, other = (distinct[model][name].leave_one_out for model in pair)
        interval = intervals.jackknife_interval(value, other - one) if len(one) == len(other) else None
        interval = intervals.clip_interval(interval, -1.0, 1.0)
    else:
        interval = intervals.percentile_interval(replicates[second][name] - replicates[first][name])
    counted, other_counted = (totals[model].denominators[name] for model in pair)
    # Precision is no paired share: each model predicts an emotion for other prompts.
    if not metric.is_proportion or not np.array_equal(counted, other_counted):
        return Estimate.of(value, interval if has_enough_prompts else None)
    gained = totals[second].numerators[name] - totals[first].numerators[name]
    by_prompt = gained[counted > 0] / counted[counted > 0]
    if not has_enough_prompts:
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
