"""Figures against scikit-learn's, and against values worked out by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from response_generator.constants import EMOTIONS
from response_generator.evaluation import metrics
from response_generator.scoring.rules import is_complete

LABELS = ["clean", "word salad", "noise"]


def row(index=0, target="anger", predicted="anger", sample=0, **changes) -> dict:
    return {
        "index": index,
        "sample": sample,
        "target_emotion": target,
        "predicted_emotion": predicted,
        "emotion_score": 0.9,
        "target_probability": 0.5,
        "history": [{"role": "user", "content": {"emotion": "neutral", "dialog": "Is it raining ?"}}],
        "reference": "It is pouring !",
        "reference_emotion": "surprise",
        "reference_gibberish": "clean",
        "response": f"Reply number {index} .",
        "new_tokens": 10,
        "stopped_by_limit": False,
        "reference_tokens": 5,
        "reference_logp": -10.0,
        "gibberish_label": "clean",
        "complete": True,
    } | changes


ROWS = [
    row(0, "anger", "anger"),
    row(1, "anger", "neutral", gibberish_label="noise", complete=False, new_tokens=30, stopped_by_limit=True),
    row(2, "neutral", "neutral"),
    row(3, "neutral", "neutral", new_tokens=20),
]


def point(rows) -> dict[str, float]:
    sums = metrics.MetricTotals.of(rows, LABELS)
    return {name: values[0] for name, values in sums.figures(np.ones((1, sums.prompts))).items()}


def test_emotion_figures_by_hand():
    # anger: precision 1/1, recall 1/2, F1 2/3; neutral: precision 2/3, recall 2/2, F1 4/5; two rows each.
    for figures in (metrics.classification(ROWS), point(ROWS)):
        assert figures["emotion_accuracy"] == 3 / 4
        assert figures["non_neutral_accuracy"] == 1 / 2
        assert figures["emotion/anger/precision"] == 1
        assert figures["emotion/anger/recall"] == 1 / 2
        assert figures["emotion/anger/f1"] == pytest.approx(2 / 3)
        assert figures["emotion/neutral/f1"] == pytest.approx(4 / 5)
        assert figures["emotion_f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)
        assert figures["emotion_f1_micro_without_neutral"] == pytest.approx(2 / 3)
        # The two angry targets alone: one right, one taken for neutral.
        assert figures["non_neutral_f1_macro"] == figures["non_neutral_f1_weighted"] == pytest.approx(2 / 3)
    assert metrics.classification(ROWS)["emotion/neutral/support"] == 2


def test_weighted_and_macro_f1_differ_when_supports_do():
    figures = metrics.classification([*ROWS, row(4, "neutral", "neutral"), row(5, "neutral", "neutral")])
    anger, neutral = 2 / 3, 2 * (4 / 5) * 1 / (4 / 5 + 1)
    assert figures["emotion_f1_macro"] == pytest.approx((anger + neutral) / 2)
    assert figures["emotion_f1_weighted"] == pytest.approx((2 * anger + 4 * neutral) / 6)


def test_f1_of_every_resample_is_scikit_learns():
    """Few rows of rare emotions, so that resamples lack some of them as targets, predictions or both."""
    random = np.random.default_rng(3)
    draw = random.choice(EMOTIONS, size=(2, 12), p=(0.5, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05))
    rows = [row(index, target, predicted) for index, (target, predicted) in enumerate(draw.T)]
    weights = random.multinomial(12, [1 / 12] * 12, size=200)
    found = metrics.MetricTotals.of(rows, LABELS).figures(weights)
    for number, counts in enumerate(weights):
        targets, predicted = np.repeat(draw, counts, axis=1)
        for average in ("weighted", "macro"):
            expected = f1_score(targets, predicted, average=average, zero_division=0)
            assert found[f"emotion_f1_{average}"][number] == pytest.approx(expected, abs=1e-12)
            emotional = targets != "neutral"
            if emotional.any():
                asked, given = targets[emotional], predicted[emotional]
                expected = f1_score(asked, given, labels=np.unique(asked), average=average, zero_division=0)
                assert found[f"non_neutral_f1_{average}"][number] == pytest.approx(expected, abs=1e-12)
        if (np.concatenate([targets, predicted]) != "neutral").any():
            expected = f1_score(targets, predicted, labels=EMOTIONS[1:], average="micro", zero_division=0)
            assert found["emotion_f1_micro_without_neutral"][number] == pytest.approx(expected, abs=1e-12)


def test_neutral_targets_alone_have_no_figures_of_others():
    figures = metrics.classification([row(0, "neutral", "neutral")])
    assert "non_neutral_accuracy" not in figures and "emotion_f1_micro_without_neutral" not in figures
    assert math.isnan(point([row(0, "neutral", "neutral")])["non_neutral_accuracy"])


def test_shares_lengths_and_perplexity_by_hand():
    figures = point(ROWS)
    assert {label: figures[f"gibberish/{label}"] for label in LABELS} == {
        "clean": 3 / 4,
        "word salad": 0,
        "noise": 1 / 4,
    }
    assert (figures["complete"], figures["incomplete"], figures["stopped_by_limit"]) == (3 / 4, 1 / 4, 1 / 4)
    assert figures["mean_new_tokens"] == (10 + 30 + 10 + 20) / 4
    assert figures["length_ratio"] == (10 + 30 + 10 + 20) / 20
    uneven = [row(0, reference_logp=-2.0, reference_tokens=1), row(1, reference_logp=-6.0, reference_tokens=3)]
    assert point(uneven)["reference_perplexity"] == pytest.approx(math.exp((2 + 6) / (1 + 3)))


def test_prompts_are_resampled_with_all_their_replies():
    rows = [row(0, sample=0), row(0, predicted="fear", sample=1), row(1, sample=0), row(1, sample=1)]
    sums = metrics.MetricTotals.of(rows, LABELS)
    assert sums.prompts == 2
    # The first prompt twice; the second twice; each once.
    found = sums.figures(np.array([[2, 0], [0, 2], [1, 1]]))["emotion_accuracy"]
    assert found.tolist() == [1 / 2, 1, 3 / 4]


def test_repeats_are_between_prompts_and_copies_are_the_users_words():
    rows = [
        row(0, response="Yes ."),
        row(0, sample=1, response="Yes ."),
        row(1, response="is it raining?"),
        row(1, sample=1, response="It is raining ."),
        row(2, response="Sure ."),
        row(2, sample=1, response="It is raining ."),
    ]
    assert metrics.repeats(rows).tolist() == [False, False, False, True, False, True]
    assert [metrics.is_copy(each) for each in rows] == [False, False, True, False, False, False]
    silent = row(response="", history=[{"role": "user", "content": {"emotion": "neutral", "dialog": "…"}}])
    assert not metrics.is_copy(silent)


def test_distinct_n_by_hand():
    rows = [row(0, response="I am fine ."), row(1, response="I am here ."), row(2, response="Am I ?")]
    # i am fine . | i am here . | am i ?  ->  i am fine . here ?: 6 of 11; pairs: i-am am-fine fine-. am-here here-.
    # am-i i-?: 7 of 8.
    one, two = metrics.Distinct.of(rows, 1), metrics.Distinct.of(rows, 2)
    assert (one.whole, two.whole) == (6 / 11, 7 / 8)
    # Without the first: i am here . ?; without the second: i am fine . ?; without the third: i am fine . here.
    assert one.leave_one_out.tolist() == [5 / 7, 5 / 7, 5 / 8]
    assert two.leave_one_out.tolist() == [5 / 5, 5 / 5, 5 / 6]


def test_references_are_judged_as_replies_once_a_prompt():
    rows = [row(0), row(0, sample=1), row(1, reference="Not yet ,")]
    first, second = metrics.gold_as_predictions(rows)
    assert (first["response"], first["predicted_emotion"], first["new_tokens"]) == ("It is pouring !", "surprise", 5)
    assert (first["complete"], second["complete"]) == (True, False)


def test_the_confusion_is_targets_by_predictions():
    counts = metrics.confusions(ROWS)
    assert counts[1].tolist() == [1, 1, 0, 0, 0, 0, 0]  # anger: once taken for neutral, once followed
    assert counts.sum() == 4


@pytest.mark.parametrize(
    ("reply", "complete"),
    [
        ("Yes .", True),
        ("Yes ! ", True),
        ('He said " no ? "', True),
        ("“ Yes . ”", True),
        ("Well ,", False),
        ("Yes", False),
        ("", False),
    ],
)
def test_a_complete_reply_ends_a_sentence(reply, complete):
    assert is_complete(reply) is complete
