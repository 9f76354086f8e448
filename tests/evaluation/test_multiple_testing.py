"""p-values corrected for the number of differences, against statsmodels' own."""

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests
from test_comparison import ADAPTER, BASELINE, rows_of
from test_metrics import LABELS
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.statistics.intervals import interval_p_value
from response_generator.evaluation.statistics.multiple_testing import correct_p_values


@pytest.mark.parametrize("count", [0, 1, 2, 13])
def test_holms_correction_is_statsmodels(count):
    p_values = np.random.default_rng(count).random(count) ** 4
    p_values[count // 2 :] = p_values[: count - count // 2]  # ties
    expected = multipletests(p_values, method="holm")[1] if count else []
    assert correct_p_values(list(p_values)) == pytest.approx(list(expected))


def test_all_comparisons_are_corrected_together_and_only_what_the_conclusions_speak_of():
    rows = {"a": rows_of(BASELINE), "b": rows_of(ADAPTER), "c": rows_of([False] * 60)}
    found = compare_models(rows, EMOTION_LABELS, LABELS, 500, seed=1)
    corrected = [
        (each.p_corrected, each.p if metric.paired_test else interval_p_value(each.value, (each.low, each.high)))
        for model in ("b", "c")
        for name, metric in found.metrics.items()
        if (each := found.differences[model].get(name)) and each.p_corrected is not None
    ]
    assert found.corrected_differences == len(corrected) == 24
    expected = multipletests([p for _, p in corrected], method="holm")[1]
    assert [each for each, _ in corrected] == pytest.approx(list(expected))
    speaks_of = {name for name, metric in found.metrics.items() if metric.carries_conclusions}
    assert {name for name, each in found.differences["b"].items() if each.p_corrected is not None} < speaks_of
    assert found.differences["b"]["gibberish/noise"].p == 1.0  # in the table, but in no sentence
    assert found.flatten()["difference of b/emotion_accuracy/p_corrected"] == (
        found.differences["b"]["emotion_accuracy"].p_corrected
    )


def test_a_metric_without_a_test_has_the_p_value_of_its_interval():
    half = norm.ppf(0.975) * 0.1
    assert interval_p_value(0.25, (0.25 - half, 0.25 + half)) == pytest.approx(2 * norm.sf(2.5))
    assert interval_p_value(-0.25, (-0.25 - 9, -0.25 + half)) == pytest.approx(2 * norm.sf(2.5))  # the side toward 0
    assert interval_p_value(0.2, (0.0, 0.3)) == pytest.approx(0.05)
    assert interval_p_value(0.0, (-0.1, 0.1)) == pytest.approx(1.0)
    assert interval_p_value(0.2, (0.2, 0.2)) == interval_p_value(0.2, (0.3, 0.4)) == 1.0
    assert interval_p_value(0.2, None) is None
