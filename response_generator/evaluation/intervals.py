"""How far a figure could be off: resampling of prompts, exact tests, and where resampling cannot see, exact bounds."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import binomtest, norm, permutation_test

CONFIDENCE_LEVEL = 0.95
TAIL = (1 - CONFIDENCE_LEVEL) / 2
RESAMPLES_PER_BLOCK = 500  # resamples held in memory at once
NUM_PERMUTATIONS = 9_999
MAX_SIGNS_IN_MEMORY = 2**22  # of the permutation test, in memory

Interval = tuple[float, float]


def draw_resamples(prompts: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each prompt is drawn in each of `count` bootstrap resamples, in blocks (at most BLOCK, prompts)."""
    random = np.random.default_rng(seed)
    for start in range(0, count, RESAMPLES_PER_BLOCK):
        drawn = random.integers(prompts, size=(min(RESAMPLES_PER_BLOCK, count - start), prompts))
        row = np.arange(len(drawn))[:, None] * prompts
        yield np.bincount((drawn + row).ravel(), minlength=len(drawn) * prompts).reshape(len(drawn), prompts)


def percentile_interval(replicates: np.ndarray) -> Interval | None:
    """The percentile interval (Efron 1979). Resamples without a value are left out.

    None where none has one, or where all are alike: that is no certainty, but a sample that shows no spread.
    """
    values = replicates[np.isfinite(replicates)]
    if not len(values) or np.ptp(values) < 1e-12:
        return None
    low, high = np.quantile(values, (TAIL, 1 - TAIL))
    return float(low), float(high)


def clopper_pearson_interval(hits: int, prompts: int) -> Interval:
    """Clopper and Pearson's bounds. Where all prompts agree every resample is alike, and says nothing of the next."""
    bounds = binomtest(hits, prompts).proportion_ci(CONFIDENCE_LEVEL, method="exact")
    return float(bounds.low), float(bounds.high)


def exact_difference_interval(differences: np.ndarray) -> Interval | None:
    """Bounds of a difference of shares where every prompt differs alike, by -1, 0 or 1 each; None where they do not.

    Of what was seen in none of n prompts there may be `hidden` in all, and it may stand on either side: where no
    prompt differs the difference is within ±hidden, where all do it may be less by twice that.
    """
    if not len(differences) or np.ptp(differences) > 0 or differences[0] not in (-1, 0, 1):
        return None
    _, hidden = clopper_pearson_interval(0, len(differences))
    if differences[0] == 0:
        return -hidden, hidden
    return (1 - 2 * hidden, 1.0) if differences[0] > 0 else (-1.0, 2 * hidden - 1)


def jackknife_interval(whole: float, leave_one_out: np.ndarray) -> Interval | None:
    """A normal interval from the figure without each prompt in turn (Tukey 1958); its variance errs upwards.

    For figures that resampling distorts: a prompt drawn twice repeats its own words.
    """
    count = len(leave_one_out)
    if count < 2:
        return None
    error = np.sqrt((count - 1) / count * np.square(leave_one_out - leave_one_out.mean()).sum())
    reach = norm.ppf(1 - TAIL) * error
    return float(whole - reach), float(whole + reach)


def clip_interval(bounds: Interval | None, least: float, most: float) -> Interval | None:
    """Bounds of a figure that cannot leave a range."""
    return bounds and (max(bounds[0], least), min(bounds[1], most))


def paired_p_value(differences: np.ndarray, seed: int) -> float:
    """Two-sided p of "no difference", from each prompt's difference between two models.

    With one reply a prompt the differences are -1, 0 and 1, and this is McNemar's exact test. With several it is its
    generalization: the signs of the prompts' differences are exchanged at random.
    """
    differing = differences[differences != 0]
    if len(differing) < 2:
        return 1.0  # of a single one both signs are equally far from zero
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
