"""Figures against values worked out by hand."""

import pytest

from response_generator import metrics
from response_generator.scoring import is_complete


def row(target, predicted, gibberish="clean", complete=True, new_tokens=10):
    return {
        "target_emotion": target,
        "predicted_emotion": predicted,
        "gibberish_label": gibberish,
        "complete": complete,
        "new_tokens": new_tokens,
    }


ROWS = [
    row("anger", "anger"),
    row("anger", "neutral", "noise", False, 30),
    row("neutral", "neutral"),
    row("neutral", "neutral", new_tokens=20),
]
LABELS = ["clean", "word salad", "noise"]


def test_emotion_figures_by_hand():
    figures = metrics.of_model(ROWS, LABELS, seconds=2.0)
    # anger: precision 1/1, recall 1/2, F1 2/3; neutral: precision 2/3, recall 2/2, F1 4/5; two rows each.
    assert figures["emotion_accuracy"] == 3 / 4
    assert figures["emotion/anger/precision"] == 1
    assert figures["emotion/anger/recall"] == 1 / 2
    assert figures["emotion/anger/f1"] == pytest.approx(2 / 3)
    assert figures["emotion/neutral/f1"] == pytest.approx(4 / 5)
    assert figures["emotion/neutral/support"] == 2
    assert figures["emotion_f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert figures["emotion_f1_weighted"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert figures["emotion/fear/support"] == 0


def test_weighted_and_macro_f1_differ_when_supports_do():
    figures = metrics.of_model([*ROWS, row("neutral", "neutral"), row("neutral", "neutral")], LABELS, seconds=1.0)
    anger, neutral = 2 / 3, 2 * (4 / 5) * 1 / (4 / 5 + 1)
    assert figures["emotion_f1_macro"] == pytest.approx((anger + neutral) / 2)
    assert figures["emotion_f1_weighted"] == pytest.approx((2 * anger + 4 * neutral) / 6)


def test_shares_lengths_and_speed():
    figures = metrics.of_model(ROWS, LABELS, seconds=2.0)
    assert {label: figures[f"gibberish/{label}"] for label in LABELS} == {
        "clean": 3 / 4,
        "word salad": 0,
        "noise": 1 / 4,
    }
    assert (figures["complete"], figures["incomplete"]) == (3 / 4, 1 / 4)
    assert figures["mean_new_tokens"] == (10 + 30 + 10 + 20) / 4
    assert (figures["rows"], figures["rows_per_second"], figures["new_tokens_per_second"]) == (4, 2.0, 35.0)


def test_the_judges_own_accuracy():
    assert metrics.of_judge(["fear", "anger"], ["fear", "fear"]) == {"judge/accuracy_on_references": 0.5}


@pytest.mark.parametrize(
    ("reply", "complete"),
    [("Yes .", True), ("Yes ! ", True), ('He said " no ? "', True), ("Well ,", False), ("Yes", False), ("", False)],
)
def test_a_complete_reply_ends_a_sentence(reply, complete):
    assert is_complete(reply) is complete
