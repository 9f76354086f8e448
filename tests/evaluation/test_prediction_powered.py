"""Prediction-powered estimates against a direct loop, and against the classical intervals of scipy and statsmodels."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from response_generator.evaluation.statistics import intervals
from response_generator.evaluation.statistics.prediction_powered import estimate_prediction_powered, weigh_strata

# The classifier's values of ten prompts, of which people have rated the first five.
PREDICTED = np.array([1, 1, 0, 1, 0, 1, 1, 1, 0, 1.0])
RATED = np.array([1, 0, 0, 1, 1.0])
RATED_AT_RANDOM, TESTS = 50, 2000


def bounds(estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def test_a_small_case_by_hand():
    """The mean of f is 0.7, that of d = (0, -1, 0, 0, 1) is 0. V(f) = 2.1 / 9, V(d) = 2 / 4; the first five f have the
    mean 0.6, so C = (0.4 x -1 + -0.6 x 1) / 4 = -0.25. The quantile of t with 4 degrees of freedom is 2.7764."""
    half_width = 2.7764451 * np.sqrt((2.1 / 9 - 0.5) / 10 + 0.1)
    found = estimate_prediction_powered(PREDICTED, PREDICTED[:5], RATED)
    assert bounds(found) == pytest.approx((0.7, 0.7 - half_width, 0.7 + half_width))


def test_where_people_have_rated_all_it_is_the_classical_interval_whatever_the_classifier_says():
    random = np.random.default_rng(1)
    rated = random.integers(2, size=40).astype(float)
    expected = stats.ttest_1samp(rated, 0).confidence_interval(0.95)
    for predicted in (random.integers(2, size=40), 1 - rated, random.random(40)):
        found = estimate_prediction_powered(predicted, predicted, rated)
        assert bounds(found) == pytest.approx((rated.mean(), expected.low, expected.high))


def test_with_strata_and_all_rated_it_is_the_mean_of_an_analysis_of_variance():
    random = np.random.default_rng(2)
    strata = np.repeat([4, 7, 9], 12)
    rated = (random.random(36) < strata / 10).astype(float)
    groups = sm.OLS(rated, np.equal.outer(strata, [4, 7, 9]).astype(float)).fit()
    expected = groups.t_test([1 / 3, 1 / 3, 1 / 3])
    predicted = random.integers(2, size=36)
    found = estimate_prediction_powered(predicted, predicted, rated, strata)
    assert bounds(found) == pytest.approx((expected.effect[0], *expected.conf_int()[0]))
    assert found.high - found.low < np.diff(stats.ttest_1samp(rated, 0).confidence_interval(0.95))[0]


def test_strata_count_as_often_as_among_the_rated_prompts():
    """Rated: one of stratum 0, two of stratum 1, none of stratum 2; of the prompts two, four and one."""
    strata = np.array([0, 1, 1, 0, 1, 1, 2])
    assert weigh_strata(strata, 3) == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 0])
    predicted = np.array([1, 0, 1, 0, 0, 0, 1.0])
    found = estimate_prediction_powered(predicted, predicted[:3], np.array([1, 0, 0.0]), strata)
    assert found.value == pytest.approx(1 / 3 * 1 / 2 + 2 / 3 * 1 / 4 - 1 / 3)


def spread(first: list, second: list) -> float:
    """The sample covariance in a direct loop; of one number, 0."""
    products = [
        (a - sum(first) / len(first)) * (b - sum(second) / len(second)) for a, b in zip(first, second, strict=True)
    ]
    return sum(products) / max(len(products) - 1, 1)


@pytest.mark.parametrize("rated_by_stratum", [(3, 3, 2), (4, 1, 1), (1, 1, 1)])
def test_with_strata_of_different_size_it_is_the_formula_in_a_direct_loop(rated_by_stratum):
    """Of 5, 8 and 20 prompts some are rated. With fewer than two a stratum, V and C are around the common means."""
    random = np.random.default_rng(6)
    count = sum(rated_by_stratum)
    rest = np.subtract((5, 8, 20), rated_by_stratum)
    strata = np.concatenate([np.repeat([0, 1, 2], rated_by_stratum), np.repeat([0, 1, 2], rest)])
    predicted, rated = random.random(33), random.random(count)
    found = estimate_prediction_powered(predicted, predicted[:count], rated, strata)
    differences = rated - predicted[:count]
    value = variance = within = 0
    for stratum in range(3):
        everything, those_rated = strata == stratum, strata[:count] == stratum
        share, size = rated_by_stratum[stratum] / count, (5, 8, 20)[stratum]
        value += share * (predicted[everything].mean() + differences[those_rated].mean())
        if count >= 6:
            f, d = list(predicted[:count][those_rated]), list(differences[those_rated])
            all_f = list(predicted[everything])
            variance += share**2 / size * (spread(all_f, all_f) + 2 * spread(f, d))
            within += spread(d, d) * (len(d) - 1)
        else:
            f, d = list(predicted[:count]), list(differences)
            variance += share**2 / size * 2 * spread(f, d)
            around = predicted[everything] - predicted.mean()
            variance += share**2 / size**2 * sum(around**2) * 33 / 32
            within = spread(d, d) * (count - 1)
    freedom = count - 3 if count >= 6 else count - 1
    half_width = stats.t.ppf(0.975, freedom) * np.sqrt(variance + within / freedom / count)
    assert bounds(found) == pytest.approx((value, value - half_width, value + half_width))


def test_with_several_replies_to_a_prompt_the_differences_are_those_of_the_rated_replies():
    """The means over replies are 0.5 everywhere: they do not vary, so the interval is that of the differences alone."""
    differences = np.array([0, 0, -1, 0, 1, 0, 0, -1, 0, 0.0])
    found = estimate_prediction_powered(np.full(30, 0.5), np.ones(10), 1 + differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert bounds(found) == pytest.approx((0.4, 0.5 + expected.low, 0.5 + expected.high))


def test_where_people_and_the_classifier_never_differ_a_rare_difference_is_allowed_for():
    predicted = np.ones(100)
    _, hidden = intervals.clopper_pearson_interval(0, 20)
    found = estimate_prediction_powered(predicted, predicted[:20], np.ones(20))
    assert bounds(found) == pytest.approx((1, 1 - hidden, 1 + hidden))


def test_where_people_say_the_same_of_all_they_may_not_of_the_next_one():
    """All prompts are rated, so that the classifier's errors do not matter."""
    _, hidden = intervals.clopper_pearson_interval(0, 10)
    found = estimate_prediction_powered(PREDICTED, PREDICTED, np.zeros(10))
    assert bounds(found) == pytest.approx((0, -hidden, hidden))


def test_a_single_rating_has_no_interval():
    found = estimate_prediction_powered(PREDICTED, PREDICTED[:1], RATED[:1])
    assert (found.value, found.low, found.high) == (pytest.approx(0.7), None, None)


@pytest.mark.slow
@pytest.mark.parametrize("models", [1, 2])
def test_the_interval_holds_the_truth_in_95_percent_of_tests(models):
    """250 prompts, 50 of them rated; people find the target in 70 %, the classifier in 94 % of these and in 25 % of
    the others. With two models it is the difference of two equal ones."""
    random = np.random.default_rng(3)
    held = 0
    for _ in range(TESTS):
        truth = random.random((models, 250)) < 0.7
        predicted = np.where(truth, random.random(truth.shape) < 0.94, random.random(truth.shape) < 0.25)
        truth, predicted = (
            each[0].astype(float) if models == 1 else np.subtract(*each.astype(float)) for each in (truth, predicted)
        )
        rated = truth[:RATED_AT_RANDOM]
        found = estimate_prediction_powered(predicted, predicted[:RATED_AT_RANDOM], rated)
        held += found.low <= (0.7 if models == 1 else 0) <= found.high
    assert 0.94 <= held / TESTS <= 0.96
