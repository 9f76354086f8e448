"""All metrics of an evaluation with their intervals, and the paired differences between its models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from response_generator.constants import EMOTIONS
from response_generator.evaluation.estimates import (
    Estimate,
    estimate_difference,
    estimate_metrics,
    estimate_preference,
    resample_metrics,
)
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
