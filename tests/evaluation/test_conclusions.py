"""What is said of the differences."""

import numpy as np
import pytest
from test_comparison import ADAPTER, BASELINE, RESAMPLES, evaluated, rows_of
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import GOLD, compare_models
from response_generator.evaluation.reporting.cards import build_cards
from response_generator.evaluation.reporting.clear_changes import explain_noise, is_clear_change
from response_generator.evaluation.reporting.conclusions import draw_conclusions
from response_generator.evaluation.statistics.estimates import Estimate

NOISE = "the difference could be noise, because "


def test_a_claim_says_what_can_be_said():
    better = draw_conclusions(evaluated(BASELINE, ADAPTER))[0]
    assert better.startswith("The adapter follows the target emotion more often than the baseline: +28.3 points, 95 %")
    # 0.00455 by McNemar's test is the fourth smallest of twelve p-values: times nine.
    assert better.endswith("corrected p = 0.0410, n = 60, at no price that is clear here.")
    worse = draw_conclusions(evaluated(ADAPTER, BASELINE))[0]
    assert worse.startswith("The adapter follows the target emotion less often than the baseline: -28.3 points, 95 %")
    assert NOISE not in better + worse


def test_a_difference_names_the_runs_of_its_own_two_models():
    runs = [each | {"run": number} for each in rows_of(ADAPTER) for number in range(3)]
    rows = {"first": rows_of(BASELINE), "second": rows_of(ADAPTER), "third": runs}
    said = draw_conclusions(compare_models(rows, EMOTION_LABELS, LABELS, 100, seed=1))
    second, third = (
        next(sentence for sentence in said if f"{model} follows the target emotion " in sentence)
        for model in ("second", "third")
    )
    assert "3 runs" not in second and "n = 60, 3 runs of third" in third


def test_what_could_be_noise_says_whether_the_interval_or_the_test_does_not_exclude_it():
    neither = draw_conclusions(evaluated([True, False] * 20, [False, True] * 20))[0]
    assert f"{NOISE}the interval includes 0 and the corrected p is not below 0.05 (+0.0 points, 95 % CI [-" in neither
    assert "corrected p = 1.0000, n = 40)." in neither
    # Four prompts gained, none lost: the interval excludes zero, the exact test (0.125) says that a coin does it too.
    found = evaluated([True] * 50 + [False] * 4, [True] * 54)
    assert found.differences["adapter"]["emotion_accuracy"].low > 0
    by_test = draw_conclusions(found)[0]
    assert f"{NOISE}the corrected p is not below 0.05, although the interval excludes 0 (+7.4 points" in by_test
    assert "corrected p = 1.0000" in by_test


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        (Estimate(0.1, 0.0, 0.2, p_corrected=0.04), "the interval includes 0, although the corrected p is below 0.05"),
        (Estimate(0.1, p_corrected=0.3), "there is no interval and the corrected p is not below 0.05"),
        (Estimate(0.1, p_corrected=0.01), "there is no interval, although the corrected p is below 0.05"),
        (Estimate(0.1, 0.1, 0.2, 0.04, 0.2), "the corrected p is not below 0.05, although the interval excludes 0"),
        (Estimate(0.1, -0.1, 0.3), "the interval includes 0"),
        (Estimate(0.1), "there is no interval"),
    ],
)
def test_each_reason_to_doubt_a_difference(difference, reason):
    assert not is_clear_change(difference)
    assert explain_noise(difference) == reason


def test_one_metric_of_many_that_seems_clear_may_be_chance():
    """16 prompts gained and 5 lost: p = 0.027 and an interval above 0, of one of twelve metrics that are looked at."""
    found = evaluated([True] * 30 + [False] * 16 + [True] * 5, [True] * 46 + [False] * 5)
    accuracy = found.differences["adapter"]["emotion_accuracy"]
    assert accuracy.low > 0 and accuracy.p == pytest.approx(0.0266, abs=1e-4)
    first, *others = draw_conclusions(found)
    assert f"{NOISE}the corrected p is not below 0.05, although the interval excludes 0 (+21.6 points" in first
    assert not any("clearly" in said for said in others)
    assert any(
        said.startswith("Corrected p-values allow for all 12 differences that were looked at (Holm)") for said in others
    )


def test_clear_losses_are_said_as_gains_are():
    words = [f"word{number}" for number in range(60)]
    rows = {
        "baseline": [row(n, "anger", "anger", gold_logp=-20 - n % 3, response=f"{words[n]} yes .") for n in range(60)],
        "adapter": [row(n, "anger", "anger", gold_logp=-26 - n % 2, response=f"Well {n % 2} .") for n in range(60)],
    }
    worse = [
        claim
        for claim in draw_conclusions(compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1))
        if "clearly" in claim
    ]
    tokens = rows["adapter"][0]["gold_tokens"]
    before, after = np.exp(21 / tokens), np.exp(26.5 / tokens)
    assert len(worse) == 1 and worse[0].startswith("The adapter is clearly worse than the baseline in: ")
    assert f"perplexity of the gold replies {before:.2f} -> {after:.2f}, 95 % CI of the difference [" in worse[0]
    assert "distinct-1" in worse[0] and "same reply to another prompt 0.0 -> 100.0 %" in worse[0]
    better = [
        claim
        for claim in draw_conclusions(
            compare_models(dict(zip(rows, reversed(rows.values()), strict=True)), EMOTION_LABELS, LABELS, 500, 1)
        )
    ]
    assert any(claim.startswith("The adapter is clearly better than the baseline in: ") for claim in better)
    assert not any("clearly worse" in claim for claim in better)


def pay(gained: int, **changes) -> list[str]:
    """The conclusions on an adapter that follows its target in so many more of 80 prompts, and differs in `changes`."""
    rows = {
        model: [
            row(n, "anger", "anger" if n < right else "fear", new_tokens=10 + n % 5, response=f"word{n} yes .")
            for n in range(80)
        ]
        for model, right in (("baseline", 20), ("adapter", 20 + gained))
    }
    for each in rows["adapter"]:
        each |= {name: value(each["index"]) for name, value in changes.items()}
    return draw_conclusions(compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1))


def test_a_gain_is_said_with_its_price():
    worse = {
        "new_tokens": lambda n: 16 + n % 8,
        "hit_max_new_tokens": lambda n: n % 4 == 0,
        "gibberish_label": lambda n: "noise" if n % 4 == 0 else "clean",
    }
    first, *others = pay(40, **worse)
    assert first.startswith("The adapter follows the target emotion more often than the baseline: +50.0 points, 95 %")
    assert first.endswith(
        "n = 80, and pays with: stopped by max_new_tokens (0.0 -> 25.0 %), longer replies (12.00 -> 19.50 tokens per "
        "reply), clean replies (100.0 -> 75.0 %)."
    )
    assert not any("clearly worse" in said for said in others)  # once is enough
    assert any(said.startswith("The adapter writes clean replies less often than the baseline") for said in others)


def test_a_gain_without_a_price_and_a_price_without_a_gain():
    shorter = pay(40, new_tokens=lambda n: 6 + n % 5)
    assert shorter[0].endswith("n = 80, at no price that is clear here.")
    nothing = pay(0, new_tokens=lambda n: 16 + n % 5, hit_max_new_tokens=lambda n: n % 4 == 0)
    assert NOISE in nothing[0] and not any("pays with" in said or "longer" in said for said in nothing)
    assert any(
        said.startswith("The adapter is clearly worse than the baseline in: stopped by max_new_tokens 0.0 -> 25.0 %,")
        for said in nothing
    )


def test_the_figures_at_equal_length_follow_the_gain():
    rows = {
        "baseline": [row(n, "anger", "fear", emotion_at_words=["fear"] * 4) for n in range(60)],
        "adapter": [
            row(n, "anger", "anger", response="Well , yes" + " !" * (n % 3), emotion_at_words=["anger"] * 6)
            for n in range(60)
        ],
    }
    said = draw_conclusions(compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1))
    assert said[0].startswith("The adapter follows the target emotion more often than the baseline: +100.0 points")
    cut = (
        "The adapter follows the target emotion, with replies cut to equal length, more often than the baseline: +100.0"
    )
    assert said[1].startswith(cut)
    # All 60 prompts gain, so there is no interval of a regression, and no sentence.
    assert not any("controlled for length" in each for each in said)
    rows["adapter"][0] |= {"predicted_emotion": "fear"}
    said = draw_conclusions(compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1))
    assert said[2].startswith("The adapter follows the target emotion, controlled for length, more often than")


def test_the_classifiers_own_error_stands_beside_the_claim():
    rows = rows_of([True] * 50)
    for each in rows[:20]:
        each["gold_emotion"] = "sadness"
    found = compare_models({"adapter": rows}, EMOTION_LABELS, LABELS, RESAMPLES, seed=1)
    assert found.estimates[GOLD]["emotion_accuracy"].value == 0.6
    assert draw_conclusions(found)[-1].startswith(
        "The classifier itself finds the target emotion in 60.0 % of the gold"
    )
    assert "the adapter scored higher, which may show the classifier's errors" in draw_conclusions(found)[-1]
    certified = draw_conclusions(evaluated(BASELINE, ADAPTER))[-1]
    assert "it cannot confirm a higher accuracy of any model. Differences from the gold replies" in certified


def test_an_undecided_preference_is_reported_as_chance():
    undecided = draw_conclusions(evaluated(BASELINE, ADAPTER, margins=np.array([0.5, -0.2, 0.3, -0.1, 0.0])))[-2]
    assert undecided.endswith("mean margin 0.10; 1 margin(s) of exactly 0; this could be chance (50 %).")
    decided = draw_conclusions(evaluated(BASELINE, ADAPTER, margins=np.linspace(0.1, 2, 30)))[-2]
    assert decided.endswith("mean margin 1.05.")


def test_the_best_of_several_replies_is_a_model_but_the_pairs_are_the_adapters():
    rows = {"baseline": rows_of(BASELINE), "adapter": rows_of(ADAPTER), "baseline best of 6": rows_of([True] * 60)}
    margins = np.linspace(0.1, 2, 30)
    found = compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1, margins=margins)
    said = draw_conclusions(found)
    better = "The baseline best of 6 follows the target emotion more often than the baseline: "
    (price,) = [each for each in said if each.startswith(better)]
    assert "pays with: 6 sampled replies for each that is kept" in price
    assert any("the adapter prefers the chosen reply" in each for each in said)
    assert "gold_perplexity" in found.differences["adapter"]
    assert "gold_perplexity" not in {**found.differences["baseline best of 6"], **found.estimates["baseline best of 6"]}
    (card,) = [card for card in build_cards(found) if card.title == "perplexity of the gold replies"]
    assert [name for name, _ in card.rows] == ["baseline", "adapter"]


def test_what_is_not_clear_besides_the_emotion_is_one_sentence():
    said = draw_conclusions(evaluated(BASELINE, ADAPTER))
    (unclear,) = [each for each in said if each.startswith("It is not clear whether the adapter, more or less often")]
    assert unclear.count("corrected p = ") == 2 and unclear.endswith(": this could be noise.")
    assert "ends its replies with punctuation (+0.0 points, 95 % CI [-6.0, 6.0], corrected p = 1.0000)" in unclear
    assert "; writes clean replies (" in unclear


def test_a_length_that_was_not_tested_is_no_missing_price():
    shorter = [each | {"new_tokens": 5} for each in rows_of([False] * 20)]
    rows = {"baseline": shorter, "adapter": rows_of([True] * 20)}
    few = draw_conclusions(compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1))[0]
    assert few.endswith("at no price that is clear here; the length could not be tested.")
