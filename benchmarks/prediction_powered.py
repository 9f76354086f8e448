"""How often the interval of a blind test's corrected share holds the truth, in simulated tests of two equal models.

    python benchmarks/prediction_powered.py

Writes prediction_powered.md beside this file. No model is needed; it takes a minute.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.evaluation.statistics.intervals import clopper_pearson_interval
from response_generator.evaluation.statistics.prediction_powered import estimate_prediction_powered, weigh_strata

TESTS, SEED = 1000, 42
FOLLOWED = np.array([0.9, 0.5, 0.6, 0.7, 0.8, 0.4, 0.7])  # share of replies with the target in people's view, by target
EQUAL, DAILY = np.full(7, 1 / 7), np.array([0.8, 0.01, 0.006, 0.004, 0.13, 0.02, 0.03])
COLUMNS = (
    "prompts",
    "rated",
    "targets",
    "classifier misses",
    "finds falsely",
    "raters alone: holds, width",
    "corrected: holds, width",
    "difference corrected: holds, width",
)


@dataclass(frozen=True)
class Case:
    """misses, finds: of the replies with the target, and of the others, in which share the classifier is wrong."""

    prompts: int
    rated: int
    targets: str
    misses: float
    finds: float

    def draw_strata(self) -> np.ndarray:
        """Targets of all prompts, those of the rated ones first: as many of each target as there are."""
        sizes = np.maximum(np.round((EQUAL if self.targets == "equal" else DAILY) * self.prompts), 1).astype(int)
        places = [(turn, target) for target, size in enumerate(sizes) for turn in range(size)]
        return np.array([target for _, target in sorted(places)])

    def simulate(self, strata: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What people and the classifier say of all replies of a model, (prompts,)."""
        truth = random.random(len(strata)) < FOLLOWED[strata]
        said = np.where(truth, random.random(len(strata)) >= self.misses, random.random(len(strata)) < self.finds)
        return truth.astype(float), said.astype(float)


CASES = [
    *(Case(250, 50, "equal", misses, finds) for misses, finds in ((0.02, 0.05), (0.05, 0.2), (0.1, 0.3), (0.3, 0.3))),
    Case(126, 50, "equal", 0.1, 0.3),
    Case(250, 20, "equal", 0.1, 0.3),
    Case(1000, 50, "equal", 0.1, 0.3),
    Case(1000, 50, "as in DailyDialog", 0.1, 0.3),
]


def measure(case: Case) -> list[list[tuple[bool, float]]]:
    """Of each test and each of the last three columns, whether the interval holds the truth, and its width."""
    random = np.random.default_rng(SEED)
    strata = case.draw_strata()
    expected = weigh_strata(strata, case.rated) @ FOLLOWED[strata]
    results = []
    for _ in range(TESTS):
        (truth, said), (other_truth, other_said) = (case.simulate(strata, random) for _ in range(2))
        alone = Estimate.of(0, clopper_pearson_interval(truth[: case.rated].sum(), case.rated))
        corrected = estimate_prediction_powered(said, said[: case.rated], truth[: case.rated], strata)
        gained, seemed = truth - other_truth, said - other_said
        difference = estimate_prediction_powered(seemed, seemed[: case.rated], gained[: case.rated], strata)
        found = ((alone, expected), (corrected, expected), (difference, 0))
        results.append([(each.low <= value <= each.high, each.high - each.low) for each, value in found])
    return results


def list_lines() -> Iterator[str]:
    yield f"{TESTS:,} simulated tests in each row, seed {SEED}. Shares of intervals in %, their mean widths in points."
    yield ""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + "---|" * len(COLUMNS)
    for case in tqdm(CASES, unit="row"):
        means = 100 * np.mean(measure(case), axis=0)
        shown = [f"{holds:.1f}, {width:.1f}" for holds, width in means]
        errors = [f"{100 * share:.0f} %" for share in (case.misses, case.finds)]
        yield "| " + " | ".join([str(case.prompts), str(case.rated), case.targets, *errors, *shown]) + " |"


if __name__ == "__main__":
    text = "\n".join(list_lines()) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
