"""How often the 95 % intervals of the corrected accuracies hold the true value, in simulated evaluations.

    PYTHONPATH=. .venv/bin/python benchmarks/corrected_intervals.py [--evaluations N]

Each evaluation has two models, of known true accuracy for every target, and a classifier of known errors, the same on
generated as on gold replies. A prompt that is hard for one model is hard for the other. A reply that does not follow
its target has another emotion, each as often as the gold replies have it. `percentiles` is the bootstrap that the other
metrics have. Prints a table. Takes five minutes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from response_generator.evaluation.statistics.corrected import (
    correct_accuracy,
    find_correctable,
    measure_corrected,
)
from response_generator.evaluation.statistics.intervals import (
    Interval,
    draw_resamples,
    jackknife_interval,
    percentile_interval,
)

UNIFORM = np.full(7, 1 / 7)
DAILY_DIALOG = np.array([0.8, 0.02, 0.012, 0.008, 0.13, 0.015, 0.015])  # about; neutral, anger, …, as in labels.py
ACCURACIES = np.array([[0.85, 0.6, 0.5, 0.6, 0.75, 0.7, 0.6], [0.9, 0.7, 0.65, 0.65, 0.85, 0.75, 0.7]])
GOOD_CLASSIFIER = np.array([0.8, 0.7, 0.65, 0.75, 0.85, 0.7, 0.6])  # its sensitivity for each emotion
POOR_CLASSIFIER = np.array([0.7, 0.45, 0.4, 0.5, 0.6, 0.45, 0.4])
NEUTRAL_WEIGHT = 6  # how much more often than with another emotion, a wrong label is neutral
SHARED_DIFFICULTY = 0.5  # correlation of whether two replies to a prompt follow their targets
RESAMPLES = 1_000
NAMES = ("first model", "second model", "difference")


@dataclass(frozen=True)
class Result:
    """A figure of one evaluation: the true accuracy, its value and its interval."""

    name: str
    accuracy: float
    value: float
    interval: Interval

    @property
    def is_held(self) -> bool:
        return self.interval[0] <= self.accuracy <= self.interval[1]


@dataclass(frozen=True)
class Setting:
    """What evaluations are simulated: how many prompts, with gold replies of which emotions, (labels,), asked for these
    or for all targets, and how often the classifier finds each emotion, (labels,)."""

    prompts: int
    emotions: np.ndarray
    all_targets: bool
    sensitivity: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Probability of each predicted emotion (columns) for each true one (rows), (labels, labels)."""
        weights = np.ones((7, 7)) + np.eye(7)[0] * (NEUTRAL_WEIGHT - 1)
        np.fill_diagonal(weights, 0)
        wrong = weights / weights.sum(1, keepdims=True) * (1 - self.sensitivity)[:, None]
        return wrong + np.diag(self.sensitivity)


def simulate_evaluation(setting: Setting, random: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """The gold replies and those of two models by target and predicted emotion, (prompts, 7, 7) each."""
    gold = random.choice(7, setting.prompts, p=setting.emotions)
    by_target = [np.full(setting.prompts, target) for target in range(7)] if setting.all_targets else [gold]
    difficulty = random.normal(0, np.sqrt(SHARED_DIFFICULTY), setting.prompts)
    counts = []
    for accuracy in ACCURACIES:
        replies = []
        for targets in by_target:
            ease = difficulty + random.normal(0, np.sqrt(1 - SHARED_DIFFICULTY), setting.prompts)
            others = np.where(np.eye(7)[targets], 0, setting.emotions)
            others = draw(others / others.sum(1, keepdims=True), random)
            found = np.where(norm.cdf(ease) < accuracy[targets], targets, others)
            replies.append(count(targets, draw(setting.errors[found], random)))
        counts.append(np.mean(replies, axis=0))
    return count(gold, draw(setting.errors[gold], random)), counts


def draw(probabilities: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One label for each row of probabilities, (rows, labels)."""
    chosen = (probabilities.cumsum(1) < random.random((len(probabilities), 1))).sum(1)
    return np.minimum(chosen, probabilities.shape[1] - 1)


def count(targets: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.eye(7)[targets][:, :, None] * np.eye(7)[predicted][:, None]


def estimate_accuracies(setting: Setting, random: np.random.Generator, resamples: int) -> Iterator[Result]:
    """The results of one simulated evaluation; none where no target can be corrected.

    Args:
        resamples: of the bootstrap beside the intervals that are used; 0: without it.
    """
    gold, models = simulate_evaluation(setting, random)
    correctable = find_correctable(gold.sum(0))
    if not correctable.any():
        return
    weights = np.where(correctable, UNIFORM if setting.all_targets else setting.emotions, 0)
    weights /= weights.sum()
    first, second = (measure_corrected([replies], gold) for replies in models)
    values, true = [first.values[0], second.values[0]], list(ACCURACIES @ weights)
    rest = [first.leave_one_out, second.leave_one_out]
    for each in (values, true, rest):
        each.append(each[1] - each[0])
    for name, value, left, right in zip(NAMES, values, rest, true, strict=True):
        yield Result(name, right, value, jackknife_interval(value, left))
    if resamples:
        drawn = np.concatenate(list(draw_resamples(setting.prompts, resamples, seed=0)))
        totals = [(drawn @ each.reshape(setting.prompts, -1)).reshape(-1, 7, 7) for each in (gold, *models)]
        found = [correct_accuracy(replies, totals[0], correctable) for replies in totals[1:]]
        with np.errstate(invalid="ignore"):  # of resamples in which a false positive rate equals the sensitivity
            found.append(found[1] - found[0])
        for name, value, replicates, right in zip(NAMES, values, found, true, strict=True):
            yield Result(f"{name}, percentiles", right, value, percentile_interval(replicates))


def simulate_many(setting: Setting, evaluations: int, resamples: int = 0, seed: int = 0) -> dict[str, list[Result]]:
    """The results of many evaluations by name."""
    random = np.random.default_rng(seed)
    found: dict[str, list[Result]] = {}
    for _ in range(evaluations):
        for result in estimate_accuracies(setting, random, resamples):
            found.setdefault(result.name, []).append(result)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=1_000)
    options = parser.parse_args()
    heading = ["classifier", "prompts", "gold replies", "targets", "evaluations", "held, %: first model"]
    heading += ["second model", "difference", "percentiles: first model", "second model", "difference"]
    heading += ["width, first model", "bias, first model"]
    print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
    for classifier, sensitivity in (("good", GOOD_CLASSIFIER), ("poor", POOR_CLASSIFIER)):
        for prompts in (126, 500):
            for emotions, title in ((UNIFORM, "uniform"), (DAILY_DIALOG, "DailyDialog")):
                for all_targets in (False, True):
                    setting = Setting(prompts, emotions, all_targets, sensitivity)
                    found = simulate_many(setting, options.evaluations, RESAMPLES)
                    cells = [classifier, prompts, title, "all" if all_targets else "gold", *summarize(found)]
                    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def summarize(found: dict[str, list[Result]]) -> list[str]:
    """Number of evaluations; how many intervals hold the true value, in percent; mean width and error, in points."""
    first = found[NAMES[0]]
    held = [f"{np.mean([each.is_held for each in results]) * 100:.1f}" for results in found.values()]
    width = np.mean([high - low for low, high in (each.interval for each in first)])
    error = np.mean([each.value - each.accuracy for each in first])
    return [str(len(first)), *held, f"{width * 100:.0f}", f"{error * 100:+.1f}"]


if __name__ == "__main__":
    main()
