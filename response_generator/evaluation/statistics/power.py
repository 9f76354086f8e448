"""How small a difference between two models an evaluation can show, before it is run."""

import math

from scipy.stats import norm

from response_generator.evaluation.statistics.intervals import TAIL

POWER = 0.8


def find_smallest_difference(prompts: int, differing: float) -> float | None:
    """The smallest paired difference of two shares that POWER of such evaluations find at p < 0.05.

    It is (z(0.975) + z(POWER)) * sqrt(differing / prompts): the sample size of McNemar's test (Connor 1987), solved for
    the difference, with `differing` for differing - difference^2. That makes it slightly larger, as does the exact test
    what it needs.

    Args:
        prompts: number of prompts.
        differing: share of prompts in which only one of the models is right.

    Returns:
        None where even a gain in all these prompts would be found less often.
    """
    smallest = (norm.ppf(1 - TAIL) + norm.ppf(POWER)) * math.sqrt(differing / prompts)
    return float(smallest) if smallest <= differing else None
