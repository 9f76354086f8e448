"""Metrics computed from the rows of predictions.jsonl, for all prompts or for any resample of them."""

from dataclasses import dataclass

import numpy as np

from response_generator.constants import EMOTIONS
from response_generator.evaluation.columns import Column
from response_generator.evaluation.metrics import Metric
from response_generator.evaluation.predictions_file import Prediction


@dataclass(frozen=True)
class MetricTotals:
    """Means over each prompt's replies, from which every metric follows for any choice of prompts.

    numerators: `{metric: (prompts,)}` of the ratios. denominators: the same of all metrics; 0 where a prompt does not
    count. confusion: the share of replies by target and predicted emotion, (prompts, 7, 7).
    """

    metrics: dict[str, Metric]
    numerators: dict[str, np.ndarray]
    denominators: dict[str, np.ndarray]
    confusion: np.ndarray

    @classmethod
    def of(cls, rows: list[Prediction], metrics: dict[str, Metric]) -> "MetricTotals":
        """Rows of one training run, in the order of prompts, the same number for each prompt."""
        prompts = len({row["index"] for row in rows})
        confusion = np.zeros((len(rows), len(EMOTIONS), len(EMOTIONS)))
        for number, row in enumerate(rows):
            confusion[number, EMOTIONS.index(row["target_emotion"]), EMOTIONS.index(row["predicted_emotion"])] = 1

        def mean_by_prompt(column: Column) -> np.ndarray:
            return np.asarray(column(rows), float).reshape(prompts, -1).mean(1)

        return cls(
            metrics,
            {name: mean_by_prompt(metric.numerator) for name, metric in metrics.items() if metric.numerator},
            {name: mean_by_prompt(metric.denominator) for name, metric in metrics.items()},
            confusion.reshape(prompts, -1, *confusion.shape[1:]).mean(1),
        )

    @classmethod
    def mean(cls, runs: list["MetricTotals"]) -> "MetricTotals":
        """Of several training runs of one recipe, on the same prompts: what is known of each prompt.

        What is no share of all replies, such as F1, precision and perplexity, is not computed from this mean but for
        each run: a ratio of means is no mean of ratios.
        """
        first = runs[0]
        return cls(
            first.metrics,
            {name: np.mean([run.numerators[name] for run in runs], axis=0) for name in first.numerators},
            {name: np.mean([run.denominators[name] for run in runs], axis=0) for name in first.denominators},
            np.mean([run.confusion for run in runs], axis=0),
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
            differs = self.numerators[name] != other.numerators[name]
            differs |= self.denominators[name] != other.denominators[name]
        else:
            differs = (self.confusion != other.confusion).any((1, 2))
        return int(differs.sum())

    def compute(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every ratio and F1, once for each row of `weights` (resamples, prompts): how often each prompt counts.

        Returns:
            `{metric: (resamples,)}`; nan where there is nothing to divide by, for example no prompt with that target.
        """
        found = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, numerator in self.numerators.items():
                ratio = (weights @ numerator) / (weights @ self.denominators[name])
                found[name] = self.metrics[name].transform(ratio)
            confusions = weights @ self.confusion.reshape(self.prompts, -1)
            found |= compute_f1(confusions.reshape(-1, len(EMOTIONS), len(EMOTIONS)))
        return found


def compute_f1(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """F1 as scikit-learn defines it, from counts of replies by target and predicted emotion, (resamples, 7, 7).

    Averages are over the emotions that occur as target or prediction. `non_neutral_*` are over the replies whose target
    is not neutral. `emotion_f1_micro_without_neutral` is over all replies and six emotions, as in the literature on
    DailyDialog. scikit-learn itself counts one resample at a time: ten thousand would take a minute.
    """
    correct = np.diagonal(confusions, axis1=1, axis2=2)
    support, predicted = confusions.sum(2), confusions.sum(1)
    f1 = 2 * correct / (support + predicted)
    non_neutral = confusions.copy()
    non_neutral[:, 0] = 0  # leaves out the replies with a neutral target
    non_neutral_support = non_neutral.sum(2)
    non_neutral_f1 = 2 * correct / (non_neutral_support + non_neutral.sum(1))
    non_neutral_f1 = np.where(non_neutral_support > 0, non_neutral_f1, np.nan)
    others = slice(1, None)
    micro = 2 * correct[:, others].sum(1) / (support[:, others].sum(1) + predicted[:, others].sum(1))
    return {
        "emotion_f1_weighted": (np.nan_to_num(f1) * support).sum(1) / support.sum(1),
        "emotion_f1_macro": np.nan_to_num(f1).sum(1) / np.isfinite(f1).sum(1),
        "emotion_f1_micro_without_neutral": micro,
        "non_neutral_f1_weighted": (np.nan_to_num(non_neutral_f1) * non_neutral_support).sum(1)
        / non_neutral_support.sum(1),
        "non_neutral_f1_macro": np.nan_to_num(non_neutral_f1).sum(1) / np.isfinite(non_neutral_f1).sum(1),
        **{f"emotion/{emotion}/f1": f1[:, number] for number, emotion in enumerate(EMOTIONS)},
    }


def count_confusion(rows: list[Prediction]) -> np.ndarray:
    """Replies by target (rows) and predicted emotion (columns), (7, 7), in the order of EMOTIONS."""
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    for row in rows:
        counts[EMOTIONS.index(row["target_emotion"]), EMOTIONS.index(row["predicted_emotion"])] += 1
    return counts
