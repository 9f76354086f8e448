"""Intervals over prompts and training seeds."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_ind
from test_metrics import LABELS, row

from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.estimates import Estimate
from response_generator.evaluation.training_seeds import widen_estimate


def test_one_run_says_nothing_of_seeds():
    estimate = Estimate(0.6, 0.5, 0.7, 0.01)
    assert widen_estimate(estimate, 100, [np.array([0.6])]) is estimate


def test_variances_over_prompts_and_seeds_are_added():
    found = widen_estimate(Estimate(0.6, 0.5, 0.7), 101, [np.array([0.5, 0.6, 0.7])])
    over_prompts, over_seeds = (0.1 / norm.ppf(0.975)) ** 2, 0.01 / 3
    freedom = (over_prompts + over_seeds) ** 2 / (over_prompts**2 / 100 + over_seeds**2 / 2)
    half = t.ppf(0.975, freedom) * math.sqrt(over_prompts + over_seeds)
    assert (found.low, found.high) == pytest.approx((0.6 - half, 0.6 + half))


def test_a_run_without_a_value_leaves_no_interval():
    found = widen_estimate(Estimate(0.6, 0.5, 0.7, 0.2), 101, [np.array([0.5, np.nan, 0.7])])
    assert (found.value, found.low, found.high, found.p) == (0.6, None, None, None)


def test_bounds_of_a_proportion_stay_within_0_and_1():
    runs = [np.array([0.8, 0.9, 1.0])]
    assert widen_estimate(Estimate(0.9, 0.85, 0.95), 101, runs).high > 1
    assert widen_estimate(Estimate(0.9, 0.85, 0.95), 101, runs, 0.0).high == 1
    assert widen_estimate(Estimate(-0.9, -0.95, -0.85), 101, runs, -1.0).low == -1


def test_without_an_error_over_prompts_it_is_welchs_test():
    one, other = np.array([0.5, 0.58, 0.66, 0.7]), np.array([0.7, 0.71, 0.84])
    value = other.mean() - one.mean()
    found = widen_estimate(Estimate(value, value, value, 0.5), 1_000, [one, other])
    expected = ttest_ind(other, one, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    bounds = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))


PROMPTS, RUNS, TRUE_MEAN = 100, 3, 0.6


def simulate(random: np.random.Generator) -> list[dict]:
    """Replies of three runs: the chance to follow the emotion differs between prompts and between runs."""
    by_prompt = random.normal(0, 0.1, PROMPTS)
    by_run = random.normal(0, 0.08, RUNS)
    rows = []
    for index in range(PROMPTS):
        for run in range(RUNS):
            follows = random.random() < TRUE_MEAN + by_prompt[index] + by_run[run]
            rows.append(row(index, "anger", "anger" if follows else "fear", run=run))
    return rows


def test_in_a_simulation_the_interval_holds_the_true_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = covered_by_prompts_alone = 0
    for _ in range(200):
        rows = simulate(random)
        found = compare_models({"dpo": rows}, LABELS, 200, seed=1).estimates["dpo"]["emotion_accuracy"]
        covered += found.low <= TRUE_MEAN <= found.high
        alone = [{**each, "run": 0, "sample": each["run"]} for each in rows]  # as if they were samples of one run
        found = compare_models({"dpo": alone}, LABELS, 200, seed=1).estimates["dpo"]["emotion_accuracy"]
        covered_by_prompts_alone += found.low <= TRUE_MEAN <= found.high
    assert 0.92 <= covered / 200 <= 0.99
    assert covered_by_prompts_alone / 200 < 0.8
