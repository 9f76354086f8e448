"""What people would say of all replies, from what they say of a few and what a classifier says of all of them.

Prediction-powered inference: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023, Science 382:669. The estimate is
the classifier's mean over all prompts plus the mean of (people - classifier) over those that people have rated. It is
unbiased however wrong the classifier is, and its interval is narrow where the classifier agrees with people.
"""

import numpy as np
from scipy.stats import t

from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.evaluation.statistics.intervals import TAIL, clopper_pearson_interval

MIN_RATED_PER_STRATUM = 2  # on average; with fewer, the variance within strata cannot be estimated


def weigh_strata(strata: np.ndarray, rated: int) -> np.ndarray:
    """Weights of all prompts with which each stratum counts as often as among the rated prompts, (prompts,); sum 1.

    Args:
        strata: number of the stratum of each prompt, the rated prompts first, (prompts,).
        rated: how many are rated.
    """
    sizes = np.bincount(strata)
    shares = np.bincount(strata[:rated], minlength=len(sizes)) / rated
    return (shares / np.maximum(sizes, 1))[strata]


def estimate_prediction_powered(
    predicted: np.ndarray, predicted_rated: np.ndarray, rated: np.ndarray, strata: np.ndarray | None = None
) -> Estimate:
    """The mean that people would give, with its 95 % interval.

    The rated prompts are a random sample of all prompts (two-phase sampling), so that the variance is
    (V(f) + 2 C(f, d)) / prompts + V(d) / rated, for the classifier's values f and the differences d; that of the
    paper is without the covariance C, because it has the rated prompts in the second sum alone. The quantile is that
    of a t-distribution, because V(d) is estimated from few ratings. Where all d or all ratings are equal, the interval
    is wider by the exact bound (Clopper and Pearson) of what no rated prompt shows. A single rating has no interval.
    benchmarks/prediction_powered.py simulates how often it holds the truth.

    Args:
        predicted: the classifier's value of every prompt, the rated prompts first and in their order, (prompts,); with
            several replies to a prompt, their mean.
        predicted_rated: the classifier's value of each rated reply, (rated,).
        rated: people's value of it, (rated,).
        strata: number of the stratum of each prompt, in the order of `predicted`, (prompts,), if the rated prompts were
            drawn by stratum. The estimate then is for strata as frequent as among the rated prompts. V and C are those
            within strata, of which V(d) is pooled.
    """
    count = len(rated)
    strata = np.zeros(len(predicted), int) if strata is None else np.unique(strata, return_inverse=True)[1]
    weights = weigh_strata(strata, count)
    differences = rated - predicted_rated
    value = weights @ predicted + differences.mean()
    if count < MIN_RATED_PER_STRATUM * len(np.unique(strata[:count])):
        strata = np.zeros_like(strata)  # the variance around the common mean is larger
    predicted_around, sizes = subtract_means(predicted, strata)
    around, rated_sizes = subtract_means(differences, strata[:count])
    freedom = count - len(np.unique(strata[:count]))
    if freedom < 1:
        return Estimate.of(value)
    of_all = np.square(weights * predicted_around) @ (sizes / np.maximum(sizes - 1, 1))
    of_both = np.bincount(strata, np.square(weights))[strata[:count]] / np.maximum(rated_sizes - 1, 1)
    covariance = (predicted_around[:count] * around) @ of_both
    variance = of_all + 2 * covariance + around @ around / freedom / count
    half_width = t.ppf(1 - TAIL, freedom) * np.sqrt(max(variance, 0))
    if np.ptp(differences) == 0 or np.ptp(rated) == 0:
        half_width += clopper_pearson_interval(0, count)[1]
    return Estimate.of(value, (float(value - half_width), float(value + half_width)))


def subtract_means(values: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each value minus the mean of its stratum, and the size of its stratum."""
    sizes = np.bincount(strata)
    means = np.bincount(strata, values) / np.maximum(sizes, 1)
    return values - means[strata], sizes[strata]
