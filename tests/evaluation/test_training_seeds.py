"""Intervals over prompts and training seeds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_ind
from sklearn.metrics import f1_score, precision_score
from statsmodels.stats.proportion import proportion_confint
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation import comparison
from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.metrics import list_metrics
from response_generator.evaluation.predictions_file import group_by_run
from response_generator.evaluation.statistics.estimates import Estimate, resample_metrics
from response_generator.evaluation.statistics.metric_totals import MetricTotals
from response_generator.evaluation.statistics.training_seeds import widen_estimate


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


def make_runs(predictions: list[list[str]], targets: list[str], logps: list[float]) -> list[dict]:
    rows = [
        row(index, target, predicted[index], run=run, gold_logp=logps[run], gold_tokens=4)
        for index, target in enumerate(targets)
        for run, predicted in enumerate(predictions)
    ]
    return rows


def test_f1_precision_and_perplexity_are_means_over_the_runs_own_values():
    random = np.random.default_rng(0)
    emotions = ["neutral", "anger", "fear"]
    targets = [emotions[index % 3] for index in range(60)]
    predictions = [
        [target if random.random() < share else str(random.choice(emotions)) for target in targets]
        for share in (0.1, 0.5, 0.9)
    ]
    found = compare_models(
        {"dpo": make_runs(predictions, targets, [-4.0, -8.0, -16.0])}, EMOTION_LABELS, LABELS, 300, seed=1
    )
    dpo = found.estimates["dpo"]
    for average in ("macro", "weighted"):
        expected = np.mean([f1_score(targets, each, average=average) for each in predictions])
        assert dpo[f"emotion_f1_{average}"].value == pytest.approx(expected)
    expected = np.mean([precision_score(targets, each, average=None, labels=["fear"])[0] for each in predictions])
    assert dpo["emotion/fear/precision"].value == pytest.approx(expected)
    assert dpo["gold_perplexity"].value == pytest.approx((math.e + math.e**2 + math.e**4) / 3)
    for name in ("emotion_f1_macro", "emotion/fear/precision"):
        assert dpo[name].low < dpo[name].value < dpo[name].high


def test_a_resample_has_the_mean_over_the_runs_too():
    targets = ["anger", "fear", "anger", "neutral"]
    runs = make_runs(
        [["anger", "fear", "fear", "anger"], ["anger", "anger", "anger", "neutral"]], targets, [-4.0, -9.0]
    )
    metrics = list_metrics(EMOTION_LABELS, row(), LABELS)
    totals = [MetricTotals.of(run, EMOTION_LABELS, metrics) for run in group_by_run(runs)]
    together = resample_metrics({"dpo": totals}, 20, seed=1)["dpo"]
    alone = [resample_metrics({"dpo": [each]}, 20, seed=1)["dpo"] for each in totals]
    for name in ("emotion_f1_macro", "emotion/anger/precision", "gold_perplexity", "emotion_accuracy"):
        expected = (alone[0][name] + alone[1][name]) / 2
        assert together[name] == pytest.approx(expected, nan_ok=True)


def test_a_run_that_never_predicts_an_emotion_has_no_precision_of_it():
    targets = ["fear", "anger"] * 30
    always, never = ["fear", "fear"] * 30, ["anger", "anger"] * 30
    found = compare_models(
        {"dpo": make_runs([always, never], targets, [-4.0, -4.0])}, EMOTION_LABELS, LABELS, 100, seed=1
    )
    precision = found.estimates["dpo"]["emotion/fear/precision"]
    assert (precision.value, precision.low) == (0.5, None)


def test_degrees_of_freedom_over_prompts_are_those_of_the_metric():
    """12 of 200 prompts ask for fear; the runs follow it in 5, 6 and 8 of them."""
    targets = ["fear"] * 12 + ["anger"] * 188
    predictions = [["fear"] * follows + ["anger"] * (200 - follows) for follows in (5, 6, 8)]
    found = compare_models({"dpo": make_runs(predictions, targets, [-4.0] * 3)}, EMOTION_LABELS, LABELS, 100, seed=1)
    recall = found.estimates["dpo"]["emotion/fear/recall"]
    exact = proportion_confint(19 / 3, 12, method="beta")
    expected = widen_estimate(Estimate(19 / 36, *exact), 12, [np.array([5, 6, 8]) / 12], 0.0)
    assert (recall.value, recall.low, recall.high) == pytest.approx((19 / 36, expected.low, expected.high))


PROMPTS, RUNS, TRUE_MEAN = 60, 3, 0.6
SIMULATIONS = 100


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


@pytest.mark.slow
def test_in_a_simulation_the_interval_holds_the_true_mean_as_often_as_it_says(monkeypatch):
    metric = list_metrics(EMOTION_LABELS, row(0, "anger", "anger"), [])["emotion_accuracy"]
    only = {metric.name: replace(metric, on_gold=False)}  # all else would take most of the time
    monkeypatch.setattr(comparison, "list_metrics", lambda *_: only)
    random = np.random.default_rng(0)
    covered = covered_by_prompts_alone = 0
    for _ in range(SIMULATIONS):
        rows = simulate(random)
        found = compare_models({"dpo": rows}, EMOTION_LABELS, LABELS, 100, seed=1).estimates["dpo"]["emotion_accuracy"]
        covered += found.low <= TRUE_MEAN <= found.high
        alone = [{**each, "run": 0, "sample": each["run"]} for each in rows]  # as if they were samples of one run
        found = compare_models({"dpo": alone}, EMOTION_LABELS, LABELS, 100, seed=1).estimates["dpo"]["emotion_accuracy"]
        covered_by_prompts_alone += found.low <= TRUE_MEAN <= found.high
    assert 0.92 <= covered / SIMULATIONS <= 0.99
    assert covered_by_prompts_alone / SIMULATIONS < 0.8


def test_the_same_runs_in_another_order_differ_in_no_prompt():
    random = np.random.default_rng(0)
    targets = [EMOTION_LABELS.names[place % 7] for place in range(60)]
    predictions = [[EMOTION_LABELS.names[place] for place in random.integers(7, size=60)] for _ in range(3)]
    one, other = (make_runs(order, targets, [-8.0] * 3) for order in (predictions, predictions[::-1]))
    metrics = list_metrics(EMOTION_LABELS, one[0], [])
    totals = [
        MetricTotals.mean([MetricTotals.of(run, EMOTION_LABELS, metrics) for run in group_by_run(rows)])
        for rows in (one, other)
    ]
    assert not any(totals[0].count_differing_prompts(totals[1], name) for name in metrics)
    difference = compare_models({"one": one, "other": other}, EMOTION_LABELS, [], 100, seed=1).differences["other"]
    assert (difference["emotion_accuracy"].value, difference["emotion_accuracy"].p) == (pytest.approx(0), 1)
