"""What is said of the differences."""

import numpy as np
import pytest
from test_comparison import ADAPTER, BASELINE, RESAMPLES, evaluated, rows_of
from test_metrics import LABELS, row

from response_generator.evaluation.comparison import GOLD, compare_models
from response_generator.evaluation.conclusions import draw_conclusions, explain_noise, is_clear_change
from response_generator.evaluation.estimates import Estimate

NOISE = "the difference could be noise, because "


def test_a_claim_says_what_can_be_said():
    better = draw_conclusions(evaluated(BASELINE, ADAPTER))[0]
    assert better.startswith("The adapter follows the target emotion more often than the baseline: +28.3 points, 95 %")
    # The smallest of the eleven p-values, which is 0.0046, is multiplied by eleven.
    assert better.endswith("corrected p = XX, n = 60.")
    worse = draw_conclusions(evaluated(ADAPTER, BASELINE))[0]
    assert worse.startswith("The adapter follows the target emotion less often than the baseline: -28.3 points, 95 %")
    assert NOISE not in better + worse


def test_what_could_be_noise_says_whether_the_interval_or_the_test_does_not_exclude_it():
    neither = draw_conclusions(evaluated([True, False] * 20, [False, True] * 20))[0]
    assert f"{NOISE}the interval includes 0 and p is not below 0.05 (+0.0 points, 95 % CI [-" in neither
    assert "p = 1.0000, n = 40)." in neither
    # Four prompts gained, none lost: the resamples are all above zero, the exact test says that a coin does it too.
    found = evaluated([True] * 50 + [False] * 4, [True] * 54)
    assert found.differences["adapter"]["emotion_accuracy"].low > 0
    by_test = draw_conclusions(found)[0]
    assert f"{NOISE}p is not below 0.05, although the interval excludes 0 (+7.4 points" in by_test
    assert "p = 0.1250" in by_test


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        (Estimate(0.1, 0.0, 0.2, 0.04), "the interval includes 0, although p is below 0.05"),
        (Estimate(0.1, None, None, 0.3), "there is no interval and p is not below 0.05"),
        (Estimate(0.1, None, None, 0.01), "there is no interval, although p is below 0.05"),
        (Estimate(0.1, -0.1, 0.3), "the interval includes 0"),
        (Estimate(-0.1, -0.2, -0.05), "there are fewer than 30 prompts"),
        (Estimate(0.1), "there is no interval"),
    ],
)
def test_each_reason_to_doubt_a_difference(difference, reason):
    assert not is_clear_change(difference, prompts=29)
    assert explain_noise(difference) == reason


def test_clear_losses_are_said_as_gains_are():
    words = [f"word{number}" for number in range(60)]
    rows = {
        "baseline": [row(n, "anger", "anger", gold_logp=-20 - n % 3, response=f"{words[n]} yes .") for n in range(60)],
        "adapter": [row(n, "anger", "anger", gold_logp=-26 - n % 2, response=f"Well {n % 2} .") for n in range(60)],
    }
    worse = [claim for claim in draw_conclusions(compare_models(rows, LABELS, RESAMPLES, seed=1)) if "clearly" in claim]
    tokens = rows["adapter"][0]["gold_tokens"]
    before, after = np.exp(21 / tokens), np.exp(26.5 / tokens)
    assert len(worse) == 1 and worse[0].startswith("The adapter is clearly worse than the baseline in: ")
    assert f"perplexity of the gold replies {before:.2f} -> {after:.2f}, 95 % CI of the difference [" in worse[0]
    assert "distinct-1" in worse[0] and "same reply to another prompt 0.0 -> 100.0 %" in worse[0]
    better = [
        claim
        for claim in draw_conclusions(
            compare_models(dict(zip(rows, reversed(rows.values()), strict=True)), LABELS, 500, 1)
        )
    ]
    assert any(claim.startswith("The adapter is clearly better than the baseline in: ") for claim in better)
    assert not any("clearly worse" in claim for claim in better)


def test_the_classifiers_own_error_stands_beside_the_claim():
    rows = rows_of([True] * 50)
    for each in rows[:20]:
        each["gold_emotion"] = "sadness"
    found = compare_models({"adapter": rows}, LABELS, RESAMPLES, seed=1)
    assert found.estimates[GOLD]["emotion_accuracy"].value == 0.6
    assert draw_conclusions(found)[-1].startswith(
        "The classifier itself finds the target emotion in 60.0 % of the gold"
    )
    assert "the adapter scored higher, which may show the classifier's errors" in draw_conclusions(found)[-1]
    certified = draw_conclusions(evaluated(BASELINE, ADAPTER))[-1]
    assert certified.endswith("it cannot confirm a higher accuracy of any model.")


def test_an_undecided_preference_is_reported_as_chance():
    undecided = draw_conclusions(evaluated(BASELINE, ADAPTER, margins=np.array([0.5, -0.2, 0.3, -0.1, 0.0])))[-2]
    assert undecided.endswith("mean margin 0.10; 1 margin(s) of exactly 0; this could be chance (50 %).")
    decided = draw_conclusions(evaluated(BASELINE, ADAPTER, margins=np.linspace(0.1, 2, 30)))[-2]
    assert decided.endswith("mean margin 1.05.")
