"""All metrics of an evaluation with their intervals, and the paired differences between its models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from response_generator.constants import EMOTIONS
from response_generator.evaluation import intervals
from response_generator.evaluation.estimates import Estimate
from response_generator.evaluation.metric_totals import Distinct, MetricTotals, count_confusion, gold_as_predictions
from response_generator.evaluation.metrics import DISTINCT_ORDER, Metric, list_metrics
from response_generator.evaluation.predictions_file import Prediction, group_by_run
from response_generator.evaluation.training_seeds import widen_estimates

GOLD = "gold"  # in metrics.json: the replies that people wrote, classified like the models' replies
GOLD_TITLE = "gold replies"
RESERVED_NAMES = (GOLD, "difference", "preference")  # groups of metrics.json, so no model may have such a name


@dataclass(frozen=True)
class Comparison:
    """All results of an evaluation. The first model is the one that the others are compared with.

    metrics: the table's entries by name. rows: the predictions of each model; of a recipe that was trained several
    times, those of all its runs. estimates: `{model or "gold": {metric: Estimate}}`. differences: `{model: {metric:
    Estimate}}` for all models but the first. margins: reward margins of held-out pairs, (pairs,). preference:
    statistics of the margins; empty where no pairs were measured.
    """

    metrics: dict[str, Metric]
    rows: dict[str, list[Prediction]]
    estimates: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    margins: np.ndarray
    preference: dict[str, Estimate]

    @property
    def models(self) -> list[str]:
        return list(self.rows)

    @cached_property
    def prompts(self) -> int:
        return len({row["index"] for row in self.rows[self.models[0]]})

    @cached_property
    def gold_predictions(self) -> list[Prediction]:
        return gold_as_predictions(self.rows[self.models[0]])

    @cached_property
    def runs(self) -> dict[str, int]:
        """Training runs of each model."""
        return {model: len(group_by_run(rows)) for model, rows in self.rows.items()}

    @property
    def samples(self) -> int:
        """Replies of a run to each prompt."""
        return len(self.rows[self.models[0]]) // self.prompts // self.runs[self.models[0]]

    def num_prompts_with_target(self, *emotions: str) -> int:
        rows = self.rows[self.models[0]]
        return len({row["index"] for row in rows if row["target_emotion"] in emotions})

    def flatten(self) -> dict[str, float]:
        """For metrics.json: `model/metric`, and the same followed by `/low`, `/high` and `/p`."""
        flat: dict[str, float] = {"prompts": self.prompts, "samples_per_prompt": self.samples}
        groups = dict(self.estimates)
        groups |= {
            "difference" if len(self.differences) == 1 else f"difference of {model}": estimates
            for model, estimates in self.differences.items()
        }
        groups |= {"preference": self.preference} if self.preference else {}
        for group, estimates in groups.items():
            for name, estimate in estimates.items():
                flat[f"{group}/{name}"] = estimate.value
                bounds = {part: bound for part, bound in asdict(estimate).items() if part != "value"}
                flat |= {f"{group}/{name}/{part}": bound for part, bound in bounds.items() if bound is not None}
        for model, rows in (self.rows | {GOLD: self.gold_predictions}).items():
            for target, counts in zip(EMOTIONS, count_confusion(rows).tolist(), strict=True):
                flat[f"{model}/emotion/{target}/support"] = sum(counts)
                flat |= {
                    f"{model}/confusion/{target}/{predicted}": count
                    for predicted, count in zip(EMOTIONS, counts, strict=True)
                }
        return flat


def compare_models(
    rows: dict[str, list[Prediction]],
    gibberish_labels: Sequence[str],
    resamples: int,
    seed: int,
    margins: np.ndarray | None = None,
) -> Comparison:
    """Computes everything from rows of the same prompts, each model's in the order of prompts and samples.

    Args:
        rows: by model. Those of a recipe that was trained several times name their `run`; its estimates are means over
            the runs, with intervals over prompts and runs.
        gibberish_labels: those of the classifier; other labels in the rows are added.
        resamples: number of bootstrap resamples behind each interval.
        margins: reward margins of held-out pairs, (pairs,).
    """
    seen = {row[name] for each in rows.values() for row in each for name in ("gibberish_label", "gold_gibberish_label")}
    metrics = list_metrics([*gibberish_labels, *sorted(seen - set(gibberish_labels))])
    everyone = rows | {GOLD: gold_as_predictions(next(iter(rows.values())))}
    runs = {model: [measure_run(run, metrics) for run in group_by_run(each)] for model, each in everyone.items()}
    totals = {model: MetricTotals.mean([run for run, _ in found]) for model, found in runs.items()}
    distinct = {
        model: {name: Distinct.mean([each[name] for _, each in found]) for name in DISTINCT_ORDER}
        for model, found in runs.items()
    }
    values = {model: collect_run_values(found) for model, found in runs.items()}
    replicates = resample_metrics(totals, resamples, seed)
    estimates = {
        model: estimate_metrics(metrics, totals[model], distinct[model], replicates[model]) for model in everyone
    }
    estimates[GOLD] = {name: estimate for name, estimate in estimates[GOLD].items() if metrics[name].on_gold}
    prompts = totals[GOLD].prompts
    first, *others = rows
    differences = {
        model: {
            name: estimate_difference(metrics[name], (first, model), estimates, totals, distinct, replicates, seed)
            for name in estimates[first]
            if name in estimates[model]
        }
        for model in others
    }
    bounded = [name for name, metric in metrics.items() if metric.in_percent or name in DISTINCT_ORDER]
    differences = {
        model: widen_estimates(found, prompts, [values[first], values[model]], dict.fromkeys(bounded, -1.0))
        for model, found in differences.items()
    }
    estimates = {
        model: widen_estimates(found, prompts, [values[model]], dict.fromkeys(bounded, 0.0))
        for model, found in estimates.items()
    }
    margins = np.array([]) if margins is None else margins
    preference = estimate_preference(margins, resamples, seed)
    return Comparison(metrics, rows, estimates, differences, margins, preference)


def measure_run(rows: list[Prediction], metrics: dict[str, Metric]) -> tuple[MetricTotals, dict[str, Distinct]]:
    return MetricTotals.of(rows, metrics), {name: Distinct.of(rows, n) for name, n in DISTINCT_ORDER.items()}


def collect_run_values(runs: list[tuple[MetricTotals, dict[str, Distinct]]]) -> dict[str, np.ndarray]:
    """`{metric: (runs,)}`: the value of each training run."""
    found = [
        totals.compute(np.ones((1, totals.prompts))) | {name: [each.value] for name, each in distinct.items()}
        for totals, distinct in runs
    ]
    return {name: np.array([values[name][0] for values in found]) for name in found[0]}


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
        if name in distinct:
            interval = intervals.jackknife_interval(values[name], distinct[name].leave_one_out)
            interval = intervals.clip_interval(interval, 0.0, 1.0)
        elif metric.is_proportion and values[name] in (0.0, 1.0):
            counted = int((totals.ratios[name][1] > 0).sum())  # prompts with such a target, for example
            interval = intervals.clopper_pearson_interval(counted if values[name] else 0, counted)
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
    if name in distinct[first]:
        one, other = (distinct[model][name].leave_one_out for model in pair)
        interval = intervals.jackknife_interval(value, other - one) if len(one) == len(other) else None
        return Estimate.of(value, intervals.clip_interval(interval, -1.0, 1.0))
    interval = intervals.percentile_interval(replicates[second][name] - replicates[first][name])
    if not metric.is_proportion:
        return Estimate.of(value, interval)
    (one, counted), (other, other_counted) = (totals[model].ratios[name] for model in pair)
    if not np.array_equal(counted, other_counted):  # precision: each model predicts an emotion for other prompts
        return Estimate.of(value, interval)
    by_prompt = (other - one)[counted > 0] / counted[counted > 0]
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
    if preferred.all() or not preferred.any():
        interval = intervals.clopper_pearson_interval(int(preferred.sum()), len(preferred))
    else:
        interval = intervals.percentile_interval(np.concatenate(shares))
    quartiles = dict(zip(("p25", "median", "p75"), np.quantile(margins, (0.25, 0.5, 0.75)), strict=True))
    return {
        "reward_accuracy": Estimate.of(preferred.mean(), interval),
        "margin_mean": Estimate.of(margins.mean(), intervals.percentile_interval(np.concatenate(means))),
        **{f"margin_{name}": Estimate.of(value) for name, value in quartiles.items()},
        "margin_sd": Estimate.of(margins.std()),
        "pairs": Estimate(len(margins)),
    }
