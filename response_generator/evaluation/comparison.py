"""All metrics of an evaluation with their intervals, and the paired differences between its models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np

from response_generator.constants import BEST_OF
from response_generator.evaluation.metrics import Metric, list_metrics
from response_generator.evaluation.predictions_file import Prediction, group_by_run
from response_generator.evaluation.scores import gold_as_predictions
from response_generator.evaluation.statistics import distinct
from response_generator.evaluation.statistics.estimates import (
    Estimate,
    Measurements,
    estimate_difference,
    estimate_metrics,
    estimate_preference,
    resample_metrics,
)
from response_generator.evaluation.statistics.metric_totals import MetricTotals, count_confusion
from response_generator.evaluation.statistics.multiple_testing import correct_differences
from response_generator.evaluation.statistics.training_seeds import widen_estimate
from response_generator.labels import Labels

GOLD = "gold"  # in metrics.json: the replies that people wrote, classified like the models' replies
GOLD_TITLE = "gold replies"
RESERVED_NAMES = (GOLD, "difference", "preference")  # groups of metrics.json, so no model may have such a name


@dataclass(frozen=True)
class Comparison:
    """All results of an evaluation. The first model is the one that the others are compared with.

    labels: those that a reply can have. metrics: the table's entries by name. rows: the predictions of each model; of a
    recipe that was trained several times, those of all its runs. estimates: `{model or "gold": {metric: Estimate}}`.
    differences: `{model: {metric: Estimate}}` for all models but the first. gold_differences: the same for each model
    minus the gold replies. ngrams: `{metric: number}`, of n-grams at which distinct-n is compared. margins: reward
    margins of held-out pairs, (pairs,). preference: statistics of the margins; empty where no pairs were measured.
    """

    labels: Labels
    metrics: dict[str, Metric]
    rows: dict[str, list[Prediction]]
    estimates: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    gold_differences: dict[str, dict[str, Estimate]]
    ngrams: dict[str, int]
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

    @property
    def corrected_differences(self) -> int:
        """Number of differences between models whose p-values are corrected for each other."""
        return sum(each.p_corrected is not None for found in self.differences.values() for each in found.values())

    @property
    def has_emotions(self) -> bool:
        """Whether an emotion classifier has labeled the replies."""
        return "emotion_accuracy" in self.metrics

    @cached_property
    def has_one_token_count(self) -> bool:
        return count_tokens_alike(self.rows)

    def count_prompts(self, metric: Metric) -> int:
        """Prompts that count in a metric of the first model."""
        rows = self.rows[self.models[0]]
        return len({row["index"] for row, counts in zip(rows, metric.denominator(rows), strict=True) if counts})

    def num_prompts_with_target(self, emotion: str) -> int:
        rows = self.rows[self.models[0]]
        return len({row["index"] for row in rows if row["target_emotion"] == emotion})

    def flatten(self) -> dict[str, float]:
        """For metrics.json: `model/metric`, and the same followed by `/low`, `/high`, `/p` and `/p_corrected`."""
        flat: dict[str, float] = {"prompts": self.prompts, "samples_per_prompt": self.samples}
        flat |= {f"{name}_ngrams": number for name, number in self.ngrams.items()}
        groups = dict(self.estimates)
        groups |= {
            "difference" if len(self.differences) == 1 else f"difference of {model}": estimates
            for model, estimates in self.differences.items()
        }
        groups |= {f"difference of {model} from gold": found for model, found in self.gold_differences.items()}
        groups |= {"preference": self.preference} if self.preference else {}
        for group, estimates in groups.items():
            for name, estimate in estimates.items():
                flat[f"{group}/{name}"] = estimate.value
                bounds = {part: bound for part, bound in asdict(estimate).items() if part != "value"}
                flat |= {f"{group}/{name}/{part}": bound for part, bound in bounds.items() if bound is not None}
        return flat | (self.flatten_confusions() if self.has_emotions else {})

    def flatten_confusions(self) -> dict[str, int]:
        flat = {}
        for model, rows in (self.rows | {GOLD: self.gold_predictions}).items():
            for target, counts in zip(self.labels.names, count_confusion(rows, self.labels).tolist(), strict=True):
                flat[f"{model}/emotion/{target}/support"] = sum(counts)
                flat |= {
                    f"{model}/confusion/{target}/{predicted}": count
                    for predicted, count in zip(self.labels.names, counts, strict=True)
                }
        return flat


def compare_models(
    rows: dict[str, list[Prediction]],
    labels: Labels,
    gibberish_labels: Sequence[str],
    resamples: int,
    seed: int,
    margins: np.ndarray | None = None,
) -> Comparison:
    """Computes everything from rows of the same prompts, each model's in the order of prompts and samples.

    Args:
        rows: by model. Those of a recipe that was trained several times name their `run`; its estimates are means over
            the runs, with intervals over prompts and runs. What a classifier says of them is left out where they have
            no such column.
        labels: those that a reply can have.
        gibberish_labels: those of the classifier; other labels in the rows are added.
        resamples: number of bootstrap resamples behind each interval.
        margins: reward margins of held-out pairs, (pairs,).
    """
    columns = next(iter(rows.values()))[0].keys()
    in_rows = columns & {"gibberish_label", "gold_gibberish_label"}
    seen = {row[name] for each in rows.values() for row in each for name in in_rows}
    metrics = list_metrics(labels, columns, [*gibberish_labels, *sorted(seen - set(gibberish_labels))])
    if not count_tokens_alike(rows):
        metrics = {name: metric for name, metric in metrics.items() if not metric.in_tokens}
    everyone = rows | {GOLD: gold_as_predictions(next(iter(rows.values())))}
    measured, ngrams = measure_models(everyone, labels, metrics, resamples, seed)
    estimates = {model: estimate_model(metrics, each) for model, each in measured.items()}
    for model in (model for model in rows if BEST_OF in model):
        estimates[model] = {name: each for name, each in estimates[model].items() if not metrics[name].of_model}
    estimates[GOLD] = {name: estimate for name, estimate in estimates[GOLD].items() if metrics[name].on_gold}

    def subtract(model: str, other: str) -> dict[str, Estimate]:
        shared = [metrics[name] for name in estimates[other] if name in estimates[model]]
        return {metric.name: subtract_models(metric, measured[other], measured[model], seed) for metric in shared}

    first, *others = rows
    differences = correct_differences({model: subtract(model, first) for model in others}, metrics)
    # Only their intervals are shown: nothing is tested against the gold replies.
    gold_differences = {
        model: {name: replace(each, p=None) for name, each in subtract(model, GOLD).items()} for model in rows
    }
    margins = np.array([]) if margins is None else margins
    preference = estimate_preference(margins, resamples, seed)
    return Comparison(labels, metrics, rows, estimates, differences, gold_differences, ngrams, margins, preference)


def count_tokens_alike(rows: dict[str, list[Prediction]]) -> bool:
    """Whether all models and runs have the same number of tokens in each gold reply. If not, their tokenizers or chat
    templates differ, and so does what their token counts and their perplexity per token mean."""
    counts: dict[int, set[int]] = {}
    for row in chain.from_iterable(rows.values()):
        counts.setdefault(row["index"], set()).add(row["gold_tokens"])
    return all(len(found) == 1 for found in counts.values())


def measure_models(
    rows: dict[str, list[Prediction]], labels: Labels, metrics: dict[str, Metric], resamples: int, seed: int
) -> tuple[dict[str, Measurements], dict[str, int]]:
    """What was measured of each model, and the number of n-grams at which each distinct-n is compared."""
    runs = {model: group_by_run(each) for model, each in rows.items()}
    by_order = {name: distinct.measure_distinct(runs, n) for name, n in distinct.ORDERS.items()}
    totals = {model: [MetricTotals.of(run, labels, metrics) for run in found] for model, found in runs.items()}
    replicates = resample_metrics(totals, resamples, seed)
    measured = {}
    for model, found in totals.items():
        computed = [run.compute(np.ones((1, run.prompts))) for run in found]
        values = {name: np.concatenate([each[name] for each in computed]) for name in computed[0]}
        of_model = {name: by_model[model] for name, (by_model, _) in by_order.items()}
        values |= {name: each.values for name, each in of_model.items()}
        measured[model] = Measurements(MetricTotals.mean(found), values, replicates[model], of_model)
    return measured, {name: size for name, (_, size) in by_order.items()}


def estimate_model(metrics: dict[str, Metric], model: Measurements) -> dict[str, Estimate]:
    """Its estimates, with intervals over prompts and training runs."""
    return {
        name: widen_estimate(
            estimate,
            model.totals.count_prompts(name),
            [model.values[name]],
            0.0 if metrics[name].is_bounded else -np.inf,
        )
        for name, estimate in estimate_metrics(metrics, model).items()
    }


def subtract_models(metric: Metric, first: Measurements, second: Measurements, seed: int) -> Estimate:
    """The second minus the first model, with an interval over prompts and training runs."""
    estimate = estimate_difference(metric, first, second, seed)
    prompts = min(model.totals.count_prompts(metric.name) for model in (first, second))
    runs = [model.values[metric.name] for model in (first, second)]
    return widen_estimate(estimate, prompts, runs, -1.0 if metric.is_bounded else -np.inf)
