"""The accuracy without the emotion classifier's own errors, which its labels of the gold replies show.

People labeled the gold replies. So these say for each target how often the classifier finds it in a reply that has it
(sensitivity), and in one that has not (false positive rate). The share of replies that really follow a target is then
(share found - false positive rate) / (sensitivity - false positive rate) (Rogan and Gladen 1978). The figure is the
mean over the targets, weighted by the replies. It may lie outside of 0 and 1.

The intervals are those of the jackknife over prompts, each with its replies and its gold reply: the delta method of
Lang and Reiczigel (2014), which here also holds that the same prompts gave replies and gold replies. Percentiles of a
bootstrap hold the true value too seldom (benchmarks/corrected_intervals.py).
"""

import numpy as np

from response_generator.evaluation.statistics.intervals import MIN_PROMPTS, Jackknifed

CORRECTED = "emotion_accuracy_corrected"
MIN_GOLD_REPLIES = 10  # with a target, and without it; with fewer, its error rates are hardly known
MIN_YOUDEN_INDEX = 0.2  # sensitivity - false positive rate; dividing by less multiplies every error


def measure_corrected(runs: list[np.ndarray], gold: np.ndarray) -> Jackknifed:
    """The figure of one model, over the targets that can be corrected; nan where there is none.

    Args:
        runs: of each training run, the replies by target and predicted emotion, (prompts, labels, labels).
        gold: the same of the gold replies.
    """
    correctable = find_correctable(gold.sum(0))
    whole = [correct_accuracy(run.sum(0), gold.sum(0), correctable) for run in runs]
    rest = [correct_accuracy(run.sum(0) - run, gold.sum(0) - gold, correctable) for run in runs]
    return Jackknifed(np.array(whole), np.mean(rest, axis=0))


def find_correctable(gold: np.ndarray) -> np.ndarray:
    """Which targets have enough gold replies, leave enough others, and are found in them often enough; none if all of
    them together have fewer than MIN_PROMPTS.

    Args:
        gold: gold replies by target and predicted emotion, (labels, labels).

    Returns:
        Booleans, (labels,).
    """
    support = gold.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, false_positives = measure_error_rates(gold)
        found = sensitivity - false_positives >= MIN_YOUDEN_INDEX
    found &= (support >= MIN_GOLD_REPLIES) & (support.sum() - support >= MIN_GOLD_REPLIES)
    return found & (support[found].sum() >= MIN_PROMPTS)


def measure_error_rates(gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity and false positive rate of each target, (…, labels), from counts, (…, labels, labels)."""
    hits, support, predicted = np.diagonal(gold, axis1=-2, axis2=-1), gold.sum(-1), gold.sum(-2)
    others = support.sum(-1, keepdims=True) - support
    return hits / support, (predicted - hits) / others


def correct_accuracy(replies: np.ndarray, gold: np.ndarray, correctable: np.ndarray) -> np.ndarray:
    """The figure, (…), from counts by target and predicted emotion, (…, labels, labels).

    Args:
        correctable: which targets are counted, (labels,).
    """
    support, found = replies.sum(-1), np.diagonal(replies, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, false_positives = measure_error_rates(gold)
        right = (found - false_positives * support) / (sensitivity - false_positives)
        return right[..., correctable].sum(-1) / support[..., correctable].sum(-1)
