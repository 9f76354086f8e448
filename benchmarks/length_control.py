"""Whether the measures at equal length find no difference where replies differ in nothing but length.

    python benchmarks/length_control.py [--simulations N]

Simulates evaluations of two models whose second one writes longer replies, and prints for each case, measure and number
of prompts: the true difference, the mean estimate, and how often the 95 % interval holds the truth. Takes some minutes.
"""

import argparse

import numpy as np

from response_generator.evaluation.metrics import METRICS
from response_generator.evaluation.predictions_file import Prediction
from response_generator.evaluation.statistics.length_control import compare_lengths

MEASURES = {metric.name: metric for metric in METRICS if metric.is_pairwise}
MEAN_WORDS = (18, 24)  # of the first model and of the second one
FEWEST_WORDS = 4
RESAMPLES = 1_000
# Chance that a reply follows its target: a start, and for each word. The second model's start is added to its own.
CASES = {"length alone": 0.0, "length and a true effect": 0.15}
START, PER_WORD = 0.2, 0.012


def simulate(random: np.random.Generator, prompts: int, effect: float) -> tuple[list[Prediction], list[Prediction]]:
    """The rows of both models. A reply follows its target from a random word on, the same one for all lengths, so that
    one that is cut off follows it less often."""
    models = []
    for mean, start in zip(MEAN_WORDS, (START, START + effect), strict=True):
        words = FEWEST_WORDS + random.poisson(mean - FEWEST_WORDS, prompts)
        first = (random.random(prompts) - start) / PER_WORD  # the number of words from which the target is followed
        models.append([make_row(index, count, first[index]) for index, count in enumerate(words)])
    return models[0], models[1]


def make_row(index: int, words: int, first: float) -> Prediction:
    found = ["joy" if word >= first else "fear" for word in range(1, words + 1)]
    return {
        "index": index,
        "response": "word " * words,
        "target_emotion": "joy",
        "predicted_emotion": found[-1],
        "emotion_at_words": found,
    }


def measure(prompts: int, effect: float, simulations: int, seed: int) -> dict[str, tuple[float, float]]:
    """By measure: the mean estimate, and the share of the simulations whose interval holds the true difference."""
    random = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in MEASURES}
    for number in range(simulations):
        one, other = simulate(random, prompts, effect)
        estimates = compare_lengths(MEASURES, [one], [other], RESAMPLES, number).differences
        for name, each in estimates.items():
            found[name].append((each.value, each.low <= effect <= each.high))
    return {name: tuple(np.mean(each, axis=0).tolist()) for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1_000)
    simulations = parser.parse_args().simulations
    print("| case | prompts | measure | true difference | mean estimate | intervals that hold it |")
    print("|---|--:|---|--:|--:|--:|")
    for case, effect in CASES.items():
        for prompts in (126, 500):
            for name, (value, coverage) in measure(prompts, effect, simulations, seed=prompts).items():
                print(f"| {case} | {prompts} | `{name}` | {effect:.2f} | {value:+.4f} | {coverage:.1%} |", flush=True)


if __name__ == "__main__":
    main()
