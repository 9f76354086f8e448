"""Uncertainty of metrics: bootstrap over prompts, paired tests, and exact bounds where a bootstrap says nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, binomtest, norm, permutation_test, t

CONFIDENCE_LEVEL = 0.95
TAIL = (1 - CONFIDENCE_LEVEL) / 2
MIN_PROMPTS = 30  # with fewer, a bootstrap interval is too narrow: with 5 it may hold the true value in 83 % of cases
# With fewer, the resamples hardly vary: where one prompt is lost and none gained, no bootstrap interval goes above 0.
MIN_DIFFERING_PROMPTS = 10
RESAMPLES_PER_BLOCK = 500  # resamples held in memory at once
NUM_PERMUTATIONS = 9_999
MAX_SIGNS_IN_MEMORY = 2**22  # of the permutation test

Interval = tuple[float, float]


@dataclass(frozen=True)
class Jackknifed:
    """A metric of one model whose interval is that of the jackknife.

    values: of each training run, (runs,). leave_one_out: the mean over runs without the replies to each prompt in turn,
    (prompts,). All are nan where there is nothing to compute it from.
    """

    values: np.ndarray
    leave_one_out: np.ndarray


def draw_resamples(prompts: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each prompt is drawn in each of `count` bootstrap resamples.

    Yields:
        Blocks of at most RESAMPLES_PER_BLOCK resamples, (resamples, prompts).
    """
    random = np.random.default_rng(seed)
    for start in range(0, count, RESAMPLES_PER_BLOCK):
        drawn = random.integers(prompts, size=(min(RESAMPLES_PER_BLOCK, count - start), prompts))
        row = np.arange(len(drawn))[:, None] * prompts
        yield np.bincount((drawn + row).ravel(), minlength=len(drawn) * prompts).reshape(len(drawn), prompts)


def percentile_interval(replicates: np.ndarray, tail: float = TAIL) -> Interval | None:
    """The percentile interval (Efron 1979) of bootstrap replicates; those that are nan are left out.

    None when all are nan, or all are equal: equal replicates do not mean certainty, only a sample without variation.
    """
    values = replicates[np.isfinite(replicates)]
    if not len(values) or np.ptp(values) < 1e-12:
        return None
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def expand_tail(prompts: int, parameters: int) -> float:
    """The tail of a percentile interval of a regression, smaller than TAIL: the bootstrap's variance is too small by
    `parameters` of the prompts, and its quantiles are those of a normal distribution instead of a t-distribution
    (Hesterberg 2015, the expanded percentile interval)."""
    freedom = prompts - parameters
    return float(norm.cdf(-np.sqrt(prompts / freedom) * t.ppf(1 - TAIL, freedom)))


def clopper_pearson_interval(hits: float, prompts: float) -> Interval:
    """Exact bounds of a proportion (Clopper and Pearson 1934), for example where all prompts agree.

    With several replies to a prompt, each prompt counts as its share of hits. The bounds are then wider than needed:
    shares vary less than hits and misses do.
    """
    low = beta.ppf(TAIL, hits, prompts - hits + 1) if hits > 0 else 0.0
    high = beta.ppf(1 - TAIL, hits + 1, prompts - hits) if hits < prompts else 1.0
    return float(low), float(high)


def exact_difference_interval(differences: np.ndarray) -> Interval | None:
    """Bounds of a difference of proportions when all prompts have the same difference (-1, 0 or 1); otherwise None.

    An event that none of n prompts shows has a probability of at most `hidden` (Clopper and Pearson). If no prompt
    differs, the difference is within ±hidden. If all differ, it may be smaller by up to twice that.
    """
    if not len(differences) or np.ptp(differences) > 0 or differences[0] not in (-1, 0, 1):
        return None
    _, hidden = clopper_pearson_interval(0, len(differences))
    if differences[0] == 0:
        return -hidden, hidden
    return (1 - 2 * hidden, 1.0) if differences[0] > 0 else (-1.0, 2 * hidden - 1)


def score_difference_interval(differences: np.ndarray) -> Interval | None:
    """The score interval of a paired difference of proportions (Tango 1998), also for few prompts or few that differ.

    It has the differences d that a score test does not reject: (gained - lost - n d)^2 <= z^2 n (2 q + d (1 - d)),
    where q is the most likely probability of a lost prompt if the difference is d. None where all prompts have the same
    difference. With several replies to a prompt, gained and lost are sums of shares; the interval is then wider than
    needed, because shares vary less than single replies.

    Args:
        differences: of each prompt, -1 (lost) to 1 (gained), (prompts,).
    """
    if not len(differences) or np.ptp(differences) == 0:
        return None
    prompts, gained, lost = len(differences), differences.clip(min=0).sum(), -differences.clip(max=0).sum()
    value, quantile = (gained - lost) / prompts, norm.ppf(1 - TAIL)

    def excess(d: float) -> float:
        a, b, c = 2 * prompts, (2 * prompts - gained + lost) * d - gained - lost, -lost * d * (1 - d)
        q = (np.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
        return (gained - lost - prompts * d) ** 2 - quantile**2 * prompts * (2 * q + d * (1 - d))

    return brentq(excess, -1, value), brentq(excess, value, 1)


def jackknife_interval(whole: float, leave_one_out: np.ndarray) -> Interval | None:
    """A normal interval from the metric without each prompt in turn (Tukey 1958). Its variance is conservative.

    For metrics that a bootstrap distorts, such as distinct-n: a prompt that is drawn twice repeats its own words.
    """
    count = len(leave_one_out)
    if count < 2:
        return None
    error = np.sqrt((count - 1) / count * np.square(leave_one_out - leave_one_out.mean()).sum())
    half_width = norm.ppf(1 - TAIL) * error
    return float(whole - half_width), float(whole + half_width)


def paired_p_value(differences: np.ndarray, seed: int) -> float:
    """Two-sided p-value of "no difference", from each prompt's difference between two models.

    With one reply per prompt the differences are -1, 0 and 1, and this is McNemar's exact test. With several replies it
    is the permutation test that flips the signs of the prompts' differences at random.
    """
    differing = differences[differences != 0]
    if len(differing) < 2:
        return 1.0  # with a single one, both signs are equally extreme
    if np.isin(differing, (-1, 1)).all():
        return float(binomtest(int((differing > 0).sum()), len(differing), 0.5).pvalue)
    found = permutation_test(
        (differing,),
        np.sum,
        permutation_type="samples",
        n_resamples=NUM_PERMUTATIONS,
        batch=max(1, MAX_SIGNS_IN_MEMORY // len(differing)),
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def interval_p_value(value: float, interval: Interval | None) -> float | None:
    """Two-sided p-value of "no difference" for a metric without a test (Altman and Bland 2011).

    The side of the interval toward 0 is taken as that of a normal distribution, so p < 0.05 where the 95 % interval
    excludes 0.
    """
    if interval is None:
        return None
    toward_zero = value - interval[0] if value > 0 else interval[1] - value
    if toward_zero <= 0:  # no width, or an interval that does not hold the value itself
        return 1.0
    return float(2 * norm.sf(abs(value) / toward_zero * norm.ppf(1 - TAIL)))
