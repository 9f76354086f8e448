"""Intervals and tests against scipy's and statsmodels' own, on data made by hand."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from response_generator.evaluation.statistics import intervals

RESAMPLES = 20_000


def percentile_of(values, seed=0) -> tuple[float, float]:
    weights = np.concatenate(list(intervals.draw_resamples(len(values), RESAMPLES, seed)))
    return intervals.percentile_interval(weights @ np.asarray(values, float) / len(values))


@pytest.mark.parametrize(
    "values", [[1] * 30 + [0] * 10, [3, 9, 4, 12, 5, 8, 30, 6, 7, 7, 2, 11]], ids=["a rate", "a skewed mean"]
)
def test_the_bootstrap_is_scipys(values):
    expected = stats.bootstrap(
        (np.array(values, float),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    # Two draws of 20,000 resamples agree within a few hundredths of the interval's width.
    found = percentile_of(values)
    assert found == pytest.approx((expected.low, expected.high), abs=0.04 * (expected.high - expected.low))


def test_a_resample_draws_as_many_prompts_as_there_are_and_a_seed_fixes_it():
    blocks = list(intervals.draw_resamples(7, 1_200, seed=1))
    assert [block.shape for block in blocks] == [(500, 7), (500, 7), (200, 7)]
    weights = np.concatenate(blocks)
    assert (weights.sum(1) == 7).all()
    assert weights.mean(0) == pytest.approx(np.ones(7), abs=0.1)
    assert np.array_equal(weights, np.concatenate(list(intervals.draw_resamples(7, 1_200, seed=1))))
    assert not np.array_equal(weights, np.concatenate(list(intervals.draw_resamples(7, 1_200, seed=2))))


def test_resamples_without_a_value_are_left_out():
    found = intervals.percentile_interval(np.array([np.nan] * 50 + list(range(101))))
    assert found == pytest.approx((2.5, 97.5))
    assert intervals.percentile_interval(np.array([np.nan])) is None


def test_resamples_that_are_all_alike_are_no_interval():
    assert intervals.percentile_interval(np.full(50, 0.3)) is None


@pytest.mark.parametrize(("hits", "prompts"), [(126, 126), (0, 40), (3, 10), (2.5, 4)])
def test_exact_bounds_are_statsmodels(hits, prompts):
    assert intervals.clopper_pearson_interval(hits, prompts) == pytest.approx(
        proportion_confint(hits, prompts, method="beta")
    )


def test_where_every_prompt_differs_alike_the_bounds_are_what_could_have_hidden():
    # What was seen in none of 30 prompts has a rate below 1 - 0.025 ** (1 / 30) with 97.5 %.
    hidden = 1 - 0.025 ** (1 / 30)
    assert intervals.exact_difference_interval(np.zeros(30)) == pytest.approx((-hidden, hidden))
    assert intervals.exact_difference_interval(np.ones(30)) == pytest.approx((1 - 2 * hidden, 1))
    assert intervals.exact_difference_interval(-np.ones(30)) == pytest.approx((-1, 2 * hidden - 1))
    assert intervals.exact_difference_interval(np.array([1.0, 0.0])) is None
    assert intervals.exact_difference_interval(np.array([0.5, 0.5])) is None


def count_differences(gained: int, lost: int, prompts: int) -> np.ndarray:
    return np.array([1.0] * gained + [-1.0] * lost + [0.0] * (prompts - gained - lost))


@pytest.mark.parametrize(("gained", "lost", "prompts"), [(12, 2, 50), (1, 0, 2), (8, 0, 20), (3, 5, 11), (4, 1, 5)])
def test_the_score_interval_ends_where_the_score_test_rejects(gained, lost, prompts):
    interval = intervals.score_difference_interval(count_differences(gained, lost, prompts))
    for difference, sign in zip(interval, (1, -1), strict=True):

        def log_likelihood(q, d=difference):
            return xlogy(gained, q + d) + xlogy(lost, q) + xlogy(prompts - gained - lost, 1 - 2 * q - d)

        bounds = max(0, -difference), (1 - difference) / 2
        found = minimize_scalar(lambda q: -log_likelihood(q), bounds=bounds, method="bounded", options={"xatol": 1e-12})
        variance = prompts * (2 * found.x + difference - difference**2)
        assert (gained - lost - prompts * difference) / np.sqrt(variance) == pytest.approx(sign * 1.959964, rel=1e-3)
    reverse = intervals.score_difference_interval(count_differences(lost, gained, prompts))
    assert reverse == pytest.approx((-interval[1], -interval[0]))


def test_where_all_prompts_have_the_same_difference_there_is_no_score_interval():
    assert intervals.score_difference_interval(np.full(5, 0.5)) is None


@pytest.mark.parametrize(("prompts", "by_bootstrap"), [(5, 0.83), (18, 0.93)])
def test_with_few_prompts_the_score_interval_holds_the_true_difference_more_often_than_the_bootstrap(
    prompts, by_bootstrap
):
    """Exactly, over all outcomes, where 20 % of prompts are gained and 7 % lost."""
    weights = np.concatenate(list(intervals.draw_resamples(prompts, 2_000, seed=0)))
    covered = covered_by_bootstrap = 0.0
    for gained in range(prompts + 1):
        for lost in range(prompts + 1 - gained):
            differences = count_differences(gained, lost, prompts)
            probability = stats.multinomial.pmf([gained, lost, prompts - gained - lost], prompts, [0.2, 0.07, 0.73])
            exact = intervals.exact_difference_interval(differences)
            low, high = exact or intervals.score_difference_interval(differences)
            covered += probability * (low <= 0.13 <= high)
            low, high = exact or intervals.percentile_interval(weights @ differences / prompts)
            covered_by_bootstrap += probability * (low <= 0.13 <= high)
    assert covered >= 0.95
    assert covered_by_bootstrap == pytest.approx(by_bootstrap, abs=0.01)


@pytest.mark.parametrize(("better", "worse", "same"), [(12, 3, 20), (5, 5, 0), (1, 0, 50), (0, 9, 4)])
def test_with_one_reply_a_prompt_it_is_mcnemars_exact_test(better, worse, same):
    differences = np.array([1.0] * better + [-1.0] * worse + [0.0] * same)
    expected = mcnemar([[same, better], [worse, 0]], exact=True).pvalue
    assert intervals.paired_p_value(differences, seed=0) == pytest.approx(expected)


def test_no_difference_at_all_has_p_1():
    assert intervals.paired_p_value(np.zeros(5), seed=0) == 1.0
    assert intervals.paired_p_value(np.array([0, 0.5, 0]), seed=0) == 1.0  # half of one prompt's replies


def test_with_several_replies_signs_are_exchanged():
    differences = np.array([0.5, 0.25, 0.75, -0.25, 0.5, 0.25, 1.0, -0.5, 0.5, 0.25])
    sums = np.array([np.dot(signs, differences) for signs in product((1, -1), repeat=len(differences))])
    expected = (np.abs(sums) >= abs(differences.sum()) - 1e-12).mean()
    assert 0.01 < expected < 0.1
    assert intervals.paired_p_value(differences, seed=0) == pytest.approx(expected)


def test_the_jackknife_of_a_mean_is_its_normal_interval():
    values = np.array([2.0, 4.0, 4.0, 5.0, 7.0, 9.0])
    leave_one_out = (values.sum() - values) / (len(values) - 1)
    reach = 1.959964 * values.std(ddof=1) / np.sqrt(len(values))
    assert intervals.jackknife_interval(values.mean(), leave_one_out) == pytest.approx(
        (values.mean() - reach, values.mean() + reach), rel=1e-6
    )
    assert intervals.jackknife_interval(1.0, np.array([1.0])) is None


def test_the_interval_of_a_regression_is_expanded():
    """With 20 prompts and two parameters: 2.1009 of t with 18 degrees of freedom, times sqrt(20 / 18)."""
    assert intervals.expand_tail(20, parameters=2) == pytest.approx(
        stats.norm.sf(2.100922 * (20 / 18) ** 0.5), rel=1e-4
    )
    assert intervals.expand_tail(10**7, parameters=2) == pytest.approx(0.025, abs=1e-6)
