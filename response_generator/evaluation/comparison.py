"""All metrics of an evaluation with their intervals, and the paired differences between its models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np

from response_generator.constants import BEST_OF_NAME
from response_generator.evaluation.measured_models import estimate_model, measure_models, subtract_models
from response_generator.evaluation.metric import Metric
from response_generator.evaluation.metrics import list_metrics
from response_generator.evaluation.predictions_file import Prediction, group_by_run, has_gold_target
from response_generator.evaluation.scores import gold_as_predictions
from response_generator.evaluation.statistics.corrected import find_correctable
from response_generator.evaluation.statistics.estimates import (
    Estimate,
    Measurements,
    estimate_preference,
)
from response_generator.evaluation.statistics.length_control import compare_lengths
from response_generator.evaluation.statistics.metric_totals import count_confusion
from response_generator.evaluation.statistics.multiple_testing import correct_differences
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
    minus the gold replies, of its replies with their targets. ngrams: `{metric: number}`, of n-grams at which
    distinct-n is compared. gold_ngrams: the same of `gold_differences`. margins: reward margins of held-out pairs,
    (pairs,). preference: statistics of the margins; empty where no pairs were measured.
    """

    labels: Labels
    metrics: dict[str, Metric]
    rows: dict[str, list[Prediction]]
    estimates: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    gold_differences: dict[str, dict[str, Estimate]]
    ngrams: dict[str, int]
    gold_ngrams: dict[str, int]
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
        """Replies of a run to each prompt with each of its targets."""
        return self.replies // self.prompts // self.targets

    @property
    def replies(self) -> int:
        """Replies of a run."""
        return len(self.rows[self.models[0]]) // self.runs[self.models[0]]

    @cached_property
    def targets(self) -> int:
        """Labels that each dialogue is asked for: 1, that of its gold reply, or all."""
        first, *rows = self.rows[self.models[0]]
        return len({row.get("target_emotion") for row in (first, *rows) if row["index"] == first["index"]})

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
        return count_prompts_with_target(self.rows[self.models[0]], emotion)

    @cached_property
    def uncorrected(self) -> list[str]:
        """Targets that the corrected accuracy leaves out."""
        correctable = find_correctable(count_confusion(self.gold_predictions, self.labels))
        asked = {row["target_emotion"] for row in self.rows[self.models[0]]}
        return [name for name, is_in in zip(self.labels.names, correctable, strict=True) if name in asked and not is_in]

    def flatten(self) -> dict[str, float]:
        """For metrics.json: `model/metric`, and the same followed by `/low`, `/high`, `/p` and `/p_corrected`."""
        flat: dict[str, float] = {"prompts": self.prompts, "samples_per_prompt": self.samples, "replies": self.replies}
        flat |= {f"{name}_ngrams": number for name, number in self.ngrams.items()}
        if self.has_emotions:
            flat["uncorrected_targets"] = len(self.uncorrected)
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
    """Computes everything from rows of the same prompts, each model's in the order of prompts, targets and samples.

    Args:
        rows: by model. Those of a recipe that was trained several times name their `run`; its estimates are means over
            the runs, with intervals over prompts and runs. What a scorer says of them is left out where some have no
            such column.
        labels: those that a reply can have.
        gibberish_labels: those of the classifier; other labels in the rows are added.
        resamples: number of bootstrap resamples behind each interval.
        margins: reward margins of held-out pairs, (pairs,).
    """
    metrics = select_metrics(rows, labels, gibberish_labels)
    of_one_model = {name: metric for name, metric in metrics.items() if not metric.is_pairwise}
    gold = {GOLD: gold_as_predictions(next(iter(rows.values())))}
    measured, ngrams = measure_models(rows | gold, labels, of_one_model, resamples, seed)
    with_gold_target = {model: [row for row in each if has_gold_target(row)] for model, each in rows.items()}
    beside_gold, gold_ngrams = measured, ngrams
    if with_gold_target != rows:
        beside_gold, gold_ngrams = measure_models(with_gold_target | gold, labels, of_one_model, resamples, seed)
    estimates = {model: estimate_model(of_one_model, each) for model, each in measured.items()}
    for model in filter(BEST_OF_NAME.fullmatch, rows):
        estimates[model] = {name: each for name, each in estimates[model].items() if not metrics[name].of_model}
    estimates[GOLD] = {name: estimate for name, estimate in estimates[GOLD].items() if metrics[name].on_gold}

    def subtract(model: str, other: str, found: dict[str, Measurements]) -> dict[str, Estimate]:
        names = [name for name in estimates[other] if name in estimates[model]]
        shared = [metrics[name] for name in names if np.isfinite(found[model].mean_over_runs(name))]
        return {metric.name: subtract_models(metric, found[other], found[model], seed) for metric in shared}

    first, *others = rows
    differences = {model: subtract(model, first, measured) for model in others}
    # Only their intervals are shown: nothing is tested against the gold replies.
    gold_differences = {
        model: {name: replace(each, p=None) for name, each in subtract(model, GOLD, beside_gold).items()}
        for model in rows
    }
    runs = {model: group_by_run(each) for model, each in rows.items()}
    for model in others:
        pair = compare_lengths(metrics, runs[first], runs[model], resamples, seed)
        differences[model] |= pair.differences
        estimates[model] |= pair.second
        if len(others) == 1:  # with several, the first model has another value beside each of them
            estimates[first] |= pair.first
    known = of_one_model.keys() | {name for each in differences.values() for name in each}
    metrics = {name: metric for name, metric in metrics.items() if name in known}
    differences = correct_differences(differences, metrics)
    margins = np.array([]) if margins is None else margins
    preference = estimate_preference(margins, resamples, seed)
    return Comparison(
        labels, metrics, rows, estimates, differences, gold_differences, ngrams, gold_ngrams, margins, preference
    )


def select_metrics(
    rows: dict[str, list[Prediction]], labels: Labels, gibberish_labels: Sequence[str]
) -> dict[str, Metric]:
    """The metrics that the columns of all rows allow; see `compare_models`."""
    columns = set.intersection(*({*row} for each in rows.values() for row in each))
    in_rows = columns & {"gibberish_label", "gold_gibberish_label"}
    seen = {row[name] for each in rows.values() for row in each for name in in_rows}
    metrics = list_metrics(labels, columns, [*gibberish_labels, *sorted(seen - set(gibberish_labels))])
    if not count_tokens_alike(rows):
        metrics = {name: metric for name, metric in metrics.items() if not metric.in_tokens}
    return metrics


def count_prompts_with_target(rows: Sequence[Prediction], emotion: str) -> int:
    return len({row["index"] for row in rows if row["target_emotion"] == emotion})


def count_tokens_alike(rows: dict[str, list[Prediction]]) -> bool:
    """Whether all models and runs have the same number of tokens in each gold reply. If not, their tokenizers or chat
    templates differ, and so does what their token counts and their perplexity per token mean."""
    counts: dict[tuple, set[int]] = {}
    for row in chain.from_iterable(rows.values()):
        counts.setdefault((row["index"], row.get("target_emotion")), set()).add(row["gold_tokens"])
    return all(len(found) == 1 for found in counts.values())
