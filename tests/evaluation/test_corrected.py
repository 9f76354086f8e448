"""The accuracy without the classifier's errors, by hand, by a loop over prompts, and in simulated evaluations."""

import numpy as np
import pytest
from corrected_intervals import DAILY_DIALOG, GOOD_CLASSIFIER, UNIFORM, Setting, simulate_many
from made_reports import made_rows
from scipy.stats import norm
from test_metrics import row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import Comparison, compare_models
from response_generator.evaluation.reporting import report, table
from response_generator.evaluation.statistics.corrected import CORRECTED, find_correctable
from response_generator.labels import Labels

TWO_LABELS = Labels(("rude", "polite"), None)
# By label of the gold reply: how many of 20 the classifier finds rude. Sensitivity of rude 16/20, of polite 18/20.
GOLD_FOUND_RUDE = {"rude": 16, "polite": 2}
CORRECTED_BY_HAND = (20 * (10 / 20 - 2 / 20) / (16 / 20 - 2 / 20) + 20 * (15 / 20 - 4 / 20) / (18 / 20 - 4 / 20)) / 40


def make_rows(found_rude: dict[str, int]) -> list[dict]:
    """20 prompts of each target; which replies are found rude is not which gold replies are."""
    rows = []
    for target in TWO_LABELS.names:
        for number in range(20):
            gold, reply = (
                "rude" if place < count else "polite"
                for place, count in ((number, GOLD_FOUND_RUDE[target]), (number * 7 % 20, found_rude[target]))
            )
            rows.append(row(len(rows), target, reply, gold_emotion=gold))
    return rows


def compare(labels: Labels = TWO_LABELS, **rows: list[dict]) -> Comparison:
    return compare_models(rows, labels, [], 200, seed=1)


def test_by_hand():
    found = compare(adapter=make_rows({"rude": 10, "polite": 5})).estimates["adapter"]
    assert found["emotion_accuracy"].value == 25 / 40
    assert found[CORRECTED].value == pytest.approx(CORRECTED_BY_HAND)


def correct_directly(rows: list[dict]) -> float:
    """Rogan and Gladen, counted row by row."""
    total = 0.0
    for target in TWO_LABELS.names:
        own = [each for each in rows if each["target_emotion"] == target]
        others = [each for each in rows if each["target_emotion"] != target]
        sensitivity = sum(each["gold_emotion"] == target for each in own) / len(own)
        false_positives = sum(each["gold_emotion"] == target for each in others) / len(others)
        found = sum(each["predicted_emotion"] == target for each in own) / len(own)
        total += len(own) * (found - false_positives) / (sensitivity - false_positives)
    return total / len(rows)


def test_the_intervals_are_those_of_leaving_out_each_prompt_with_its_gold_reply():
    first, second = make_rows({"rude": 10, "polite": 5}), make_rows({"rude": 18, "polite": 0})
    found = compare(baseline=first, adapter=second)
    one, other = (
        np.array([correct_directly(rows[:left] + rows[left + 1 :]) for left in range(40)]) for rows in (first, second)
    )
    for estimate, left_out in (
        (found.estimates["baseline"][CORRECTED], one),
        (found.differences["adapter"][CORRECTED], other - one),
    ):
        half = norm.ppf(0.975) * np.sqrt(39 / 40 * np.square(left_out - left_out.mean()).sum())
        assert (estimate.low, estimate.high) == pytest.approx((estimate.value - half, min(estimate.value + half, 1)))


def test_without_errors_of_the_classifier_nothing_is_corrected():
    rows = [each | {"gold_emotion": each["target_emotion"]} for each in make_rows({"rude": 10, "polite": 5})]
    found = compare(adapter=rows).estimates["adapter"]
    assert found[CORRECTED].value == found["emotion_accuracy"].value == 25 / 40


def test_a_value_may_be_above_1_but_no_bound_is():
    found = compare(adapter=make_rows({"rude": 20, "polite": 0})).estimates["adapter"][CORRECTED]
    assert (found.value, found.high) == (pytest.approx((18 / 0.7 + 16 / 0.7) / 40), 1)
    assert 0 < found.low <= 1


def test_of_several_runs_it_is_the_mean_of_theirs():
    runs = [make_rows({"rude": 10, "polite": 5}), make_rows({"rude": 12, "polite": 9})]
    rows = [each | {"run": run} for pair in zip(*runs, strict=True) for run, each in enumerate(pair)]
    found = compare(adapter=rows).estimates["adapter"][CORRECTED]
    assert found.value == pytest.approx(np.mean([correct_directly(run) for run in runs]))
    alone = compare(adapter=runs[0]).estimates["adapter"][CORRECTED]
    assert found.high - found.low > alone.high - alone.low


def test_which_targets_can_be_corrected():
    gold = np.array([[30, 0, 0, 0], [1, 9, 0, 0], [1, 0, 8, 0], [9, 0, 0, 1]])
    assert find_correctable(gold).tolist() == [True, True, False, False]  # nine gold replies; found in one of ten
    assert not find_correctable(gold // 2).any()  # 15 gold replies in all


def test_targets_that_cannot_be_corrected_are_left_out_and_named():
    rows = made_rows(20 * 7)
    for each in (*rows["baseline"], *rows["adapter"]):
        if each["target_emotion"] == "fear":
            each["gold_emotion"] = "neutral"
    found = compare(EMOTION_LABELS, **rows)
    assert found.uncorrected == ["fear"]
    assert found.flatten()["uncorrected_targets"] == 1
    assert "… without the classifier's errors, of other targets than fear | " in report.format_summary(found, {}, [])
    assert "the same errors on generated replies" in table.describe_cells(found)


def test_with_few_gold_replies_there_is_no_corrected_figure():
    found = compare(EMOTION_LABELS, **made_rows(20))
    assert CORRECTED not in {*found.estimates["adapter"], *found.differences["adapter"]}
    groups = table.build_table(found).groups
    assert not any("classifier's errors" in cells[0] for rows in groups.values() for cells in rows)
    assert "the same errors" not in table.describe_cells(found)


def test_it_has_no_test_and_is_not_counted_among_those_corrected():
    found = compare(baseline=make_rows({"rude": 10, "polite": 5}), adapter=make_rows({"rude": 18, "polite": 0}))
    difference = found.differences["adapter"][CORRECTED]
    assert difference.low is not None and difference.p is None and difference.p_corrected is None
    assert CORRECTED not in found.estimates["gold"]


def test_two_models_that_differ_in_few_prompts_have_no_interval_of_the_difference():
    found = compare(baseline=make_rows({"rude": 10, "polite": 5}), adapter=make_rows({"rude": 12, "polite": 5}))
    difference = found.differences["adapter"][CORRECTED]
    assert difference.value == pytest.approx(20 * 2 / 20 / 0.7 / 40) and difference.low is None


@pytest.mark.slow
@pytest.mark.parametrize("emotions", [UNIFORM, DAILY_DIALOG], ids=["uniform", "DailyDialog"])
@pytest.mark.parametrize("all_targets", [False, True], ids=["gold", "all"])
def test_in_simulated_evaluations_the_intervals_hold_the_true_value_as_often_as_they_say(emotions, all_targets):
    """With 500 evaluations, an interval that holds it in 95 % of them is below 93 or above 97 % in 4 %."""
    found = simulate_many(Setting(126, emotions, all_targets, GOOD_CLASSIFIER), 500)
    for name in ("first model", "second model", "difference"):
        assert 0.93 <= np.mean([each.is_held for each in found[name]]) <= 0.98, name
    errors = [each.value - each.accuracy for each in found["first model"]]
    assert abs(np.mean(errors)) < 0.03


def test_the_false_positive_rate_needs_gold_replies_without_the_target_too():
    gold = np.array([[28, 2], [1, 8]])
    assert find_correctable(gold).tolist() == [False, False]  # nine others; nine of its own
    assert find_correctable(gold + [[0, 0], [0, 1]]).tolist() == [True, True]
