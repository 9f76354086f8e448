"""Metrics computed from the rows of predictions.jsonl, for all prompts or for any resample of them."""

from dataclasses import dataclass

import numpy as np

from response_generator.evaluation.columns import Column
from response_generator.evaluation.metric import Metric
from response_generator.evaluation.predictions_file import Prediction
from response_generator.evaluation.scores import gold_as_predictions
from response_generator.labels import Labels

NO_LABELS = Labels((), None)


@dataclass(frozen=True)
class MetricTotals:
    """Means over each prompt's replies, from which every metric follows for any choice of prompts.

    labels: those of the confusion, none where no emotions were predicted. numerators: `{metric: (prompts,)}` of the
    ratios. denominators: the same of all metrics; 0 where a prompt does not count. confusion: the share of replies by
    target and predicted emotion, (prompts, labels, labels). gold_confusion: the gold reply by its label and the
    predicted emotion, in the same form.
    """

    labels: Labels
    metrics: dict[str, Metric]
    numerators: dict[str, np.ndarray]
    denominators: dict[str, np.ndarray]
    confusion: np.ndarray
    gold_confusion: np.ndarray

    @classmethod
    def of(cls, rows: list[Prediction], labels: Labels, metrics: dict[str, Metric]) -> "MetricTotals":
        """Rows of one training run, in the order of prompts, the same number for each prompt."""
        prompts = len({row["index"] for row in rows})
        labels = labels if "emotion_accuracy" in metrics else NO_LABELS
        by_prompt = np.split(np.arange(len(rows)), prompts)
        confusions = [count_confusion([rows[place] for place in places], labels) for places in by_prompt]

        def mean_by_prompt(column: Column) -> np.ndarray:
            return np.asarray(column(rows), float).reshape(prompts, -1).mean(1)

        return cls(
            labels,
            metrics,
            {name: mean_by_prompt(metric.numerator) for name, metric in metrics.items() if metric.numerator},
            {name: mean_by_prompt(metric.denominator) for name, metric in metrics.items()},
            np.array(confusions) / len(by_prompt[0]),
            np.array([count_confusion([row], labels) for row in gold_as_predictions(rows)]),
        )

    @classmethod
    def mean(cls, runs: list["MetricTotals"]) -> "MetricTotals":
        """Of several training runs of one recipe, on the same prompts: what is known of each prompt.

        What is no share of all replies, such as F1, precision and perplexity, is not computed from this mean but for
        each run: a ratio of means is no mean of ratios.
        """
        first = runs[0]
        return cls(
            first.labels,
            first.metrics,
            {name: np.mean([run.numerators[name] for run in runs], axis=0) for name in first.numerators},
            {name: np.mean([run.denominators[name] for run in runs], axis=0) for name in first.denominators},
            np.mean([run.confusion for run in runs], axis=0),
            first.gold_confusion,
        )

    @property
    def prompts(self) -> int:
        return len(self.confusion)

    def count_prompts(self, name: str) -> int:
        """Prompts that count in a metric: for the recall of an emotion, those with that target."""
        return int((self.denominators[name] > 0).sum())

    def count_differing_prompts(self, other: "MetricTotals", name: str) -> int:
        """Prompts in which two models differ in what a ratio or an F1 is computed from."""
        if name in self.numerators:
            differs = find_differing(self.numerators[name], other.numerators[name])
            differs |= find_differing(self.denominators[name], other.denominators[name])
        else:
            differs = find_differing(self.confusion, other.confusion).any((1, 2))
        return int(differs.sum())

    def compute(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every ratio, F1 and mean recall, once for each row of `weights` (resamples, prompts): how often each counts.

        Returns:
            `{metric: (resamples,)}`; nan where there is nothing to divide by, for example no prompt with that target.
        """
        found = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, numerator in self.numerators.items():
                ratio = (weights @ numerator) / (weights @ self.denominators[name])
                found[name] = self.metrics[name].transform(ratio)
            if self.labels:
                confusions = weights @ self.confusion.reshape(self.prompts, -1)
                found |= compute_f1(confusions.reshape(-1, *self.confusion.shape[1:]), self.labels)
        return found


def find_differing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two means differ; those of the same replies in another order do so in the last digit."""
    return ~np.isclose(one, other, rtol=0, atol=1e-9)


def compute_f1(confusions: np.ndarray, labels: Labels) -> dict[str, np.ndarray]:
    """F1 and mean recall as scikit-learn defines them, from counts of replies by target and predicted emotion,
    (resamples, labels, labels).

    Averages of F1 are over the emotions that occur as target or prediction, that of the recall over those that occur as
    target. scikit-learn itself counts one resample at a time: ten thousand would take a minute.
    """
    correct = np.diagonal(confusions, axis1=1, axis2=2)
    support, predicted = confusions.sum(2), confusions.sum(1)
    f1 = 2 * correct / (support + predicted)
    found = {
        "emotion_recall_macro": np.nanmean(np.where(support > 0, correct / support, np.nan), axis=1),
        "emotion_f1_weighted": (np.nan_to_num(f1) * support).sum(1) / support.sum(1),
        "emotion_f1_macro": np.nan_to_num(f1).sum(1) / np.isfinite(f1).sum(1),
        **{f"emotion/{emotion}/f1": f1[:, number] for number, emotion in enumerate(labels.names)},
    }
    if labels.neutral is not None:
        found |= compute_f1_without(labels.names.index(labels.neutral), confusions)
    return found


def compute_f1_without(neutral: int, confusions: np.ndarray) -> dict[str, np.ndarray]:
    """`non_neutral_*` are over the replies whose target is not neutral. `emotion_f1_micro_without_neutral` is over all
    replies and the other emotions, as in the literature on DailyDialog.

    Args:
        neutral: place of the neutral label.
    """
    correct = np.diagonal(confusions, axis1=1, axis2=2)
    support, predicted = confusions.sum(2), confusions.sum(1)
    others = np.arange(confusions.shape[1]) != neutral
    micro = 2 * correct[:, others].sum(1) / (support[:, others].sum(1) + predicted[:, others].sum(1))
    confusions = confusions.copy()
    confusions[:, neutral] = 0  # leaves out the replies with a neutral target
    support = confusions.sum(2)
    f1 = 2 * correct / (support + confusions.sum(1))
    f1 = np.where(support > 0, f1, np.nan)
    return {
        "emotion_f1_micro_without_neutral": micro,
        "non_neutral_f1_weighted": (np.nan_to_num(f1) * support).sum(1) / support.sum(1),
        "non_neutral_f1_macro": np.nan_to_num(f1).sum(1) / np.isfinite(f1).sum(1),
    }


def count_confusion(rows: list[Prediction], labels: Labels) -> np.ndarray:
    """Replies by target (rows) and predicted emotion (columns), (labels, labels)."""
    places = {name: place for place, name in enumerate(labels.names)}
    counts = np.zeros((len(places), len(places)), int)
    for row in rows if labels else ():
        counts[places[row["target_emotion"]], places[row["predicted_emotion"]]] += 1
    return counts
