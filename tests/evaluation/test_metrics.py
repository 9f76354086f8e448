"""Metrics against scikit-learn's, and against values worked out by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score
from tiny_models import EMOTION_LABELS

from response_generator.evaluation import columns, metrics
from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.scores import gold_as_predictions
from response_generator.evaluation.statistics.metric_totals import MetricTotals, count_confusion
from response_generator.labels import DAILY_DIALOG_EMOTIONS as EMOTIONS
from response_generator.labels import Labels
from response_generator.scoring.rules import ends_with_punctuation

LABELS = ["clean", "word salad", "noise"]


def row(index=0, target="anger", predicted="anger", sample=0, **changes) -> dict:
    return {
        "index": index,
        "sample": sample,
        "target_emotion": target,
        "gold_target": target,
        "predicted_emotion": predicted,
        "emotion_score": 0.9,
        "target_probability": 0.5,
        "history": [{"role": "user", "content": {"emotion": "neutral", "dialog": "Is it raining ?"}}],
        "gold_response": "It is pouring !",
        "gold_emotion": "surprise",
        "gold_gibberish_label": "clean",
        "response": f"Reply number {index} .",
        "new_tokens": 10,
        "hit_max_new_tokens": False,
        "gold_tokens": 5,
        "gold_logp": -10.0,
        "gibberish_label": "clean",
        "ends_with_punctuation": True,
    } | changes


CUT_OFF = {"ends_with_punctuation": False, "hit_max_new_tokens": True}
ROWS = [
    row(0, "anger", "anger"),
    row(1, "anger", "neutral", gibberish_label="noise", new_tokens=30, **CUT_OFF),
    row(2, "neutral", "neutral"),
    row(3, "neutral", "neutral", new_tokens=20),
]


def measure(rows: list[dict], labels: Labels = EMOTION_LABELS) -> MetricTotals:
    return MetricTotals.of(rows, labels, metrics.list_metrics(labels, rows[0], LABELS))


def compute(rows: list[dict]) -> dict[str, float]:
    """Every ratio and F1 over all rows."""
    totals = measure(rows)
    return {name: values[0] for name, values in totals.compute(np.ones((1, totals.prompts))).items()}


def test_emotion_metrics_by_hand():
    # anger: precision 1/1, recall 1/2, F1 2/3; neutral: precision 2/3, recall 2/2, F1 4/5; two rows each.
    found = compute(ROWS)
    assert found["emotion_accuracy"] == 3 / 4
    assert found["non_neutral_accuracy"] == 1 / 2
    assert found["emotion/anger/precision"] == 1
    assert found["emotion/anger/recall"] == 1 / 2
    assert found["emotion/anger/f1"] == pytest.approx(2 / 3)
    assert found["emotion/neutral/f1"] == pytest.approx(4 / 5)
    assert found["emotion_f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["emotion_f1_micro_without_neutral"] == pytest.approx(2 / 3)
    # The two angry targets alone: one right, one taken for neutral.
    assert found["non_neutral_f1_macro"] == found["non_neutral_f1_weighted"] == pytest.approx(2 / 3)


def test_weighted_and_macro_f1_differ_when_supports_do():
    found = compute([*ROWS, row(4, "neutral", "neutral"), row(5, "neutral", "neutral")])
    anger, neutral = 2 / 3, 2 * (4 / 5) * 1 / (4 / 5 + 1)
    assert found["emotion_f1_macro"] == pytest.approx((anger + neutral) / 2)
    assert found["emotion_f1_weighted"] == pytest.approx((2 * anger + 4 * neutral) / 6)


@pytest.mark.slow
def test_the_metrics_of_every_resample_are_scikit_learns():
    """Few rows of rare emotions, so that resamples lack some of them as targets, predictions or both."""
    random = np.random.default_rng(3)
    draw = random.choice(EMOTIONS, size=(2, 12), p=(0.5, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05))
    rows = [row(index, target, predicted) for index, (target, predicted) in enumerate(draw.T)]
    weights = random.multinomial(12, [1 / 12] * 12, size=200)
    found = measure(rows).compute(weights)
    for number, counts in enumerate(weights):
        targets, predicted = np.repeat(draw, counts, axis=1)
        assert found["emotion_accuracy"][number] == accuracy_score(targets, predicted)
        report = classification_report(targets, predicted, labels=EMOTIONS, output_dict=True, zero_division=np.nan)
        for emotion in EMOTIONS:
            for name in ("precision", "recall"):
                expected = report[emotion][name]
                assert found[f"emotion/{emotion}/{name}"][number] == pytest.approx(expected, abs=1e-12, nan_ok=True)
            expected = report[emotion]["f1-score"] if emotion in {*targets, *predicted} else np.nan
            assert found[f"emotion/{emotion}/f1"][number] == pytest.approx(expected, abs=1e-12, nan_ok=True)
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


def test_own_labels_without_a_neutral_one_have_scikit_learns_f1_and_no_metric_of_other_targets():
    labels = Labels(("polite", "rude", "curt"), None)
    random = np.random.default_rng(5)
    draw = random.choice(labels.names, size=(2, 60), p=(0.6, 0.3, 0.1))
    rows = [row(index, target, predicted, gold_emotion="rude") for index, (target, predicted) in enumerate(draw.T)]
    comparison = compare_models({"adapter": rows}, labels, LABELS, 100, seed=1)
    found = comparison.estimates["adapter"]
    for average in ("weighted", "macro"):
        assert found[f"emotion_f1_{average}"].value == pytest.approx(f1_score(*draw, average=average))
    for name, expected in zip(labels.names, f1_score(*draw, labels=labels.names, average=None), strict=True):
        assert found[f"emotion/{name}/f1"].value == pytest.approx(expected)
    assert not [name for name in comparison.flatten() if "neutral" in name]
    expected = confusion_matrix(*draw, labels=labels.names)
    assert comparison.flatten()["adapter/confusion/rude/curt"] == expected[1, 2]


def test_any_label_may_be_the_neutral_one():
    labels = Labels(("anger", "fear", "plain"), "plain")
    rows = [row(0, "anger", "anger"), row(1, "anger", "plain"), row(2, "plain", "fear"), row(3, "plain", "fear")]
    rows = [each | {"gold_emotion": "plain"} for each in rows]
    totals = measure(rows, labels)
    found = {name: values[0] for name, values in totals.compute(np.ones((1, totals.prompts))).items()}
    assert (found["emotion_accuracy"], found["non_neutral_accuracy"]) == (1 / 4, 1 / 2)
    # Of anger and fear: one hit, two targets, three predictions.
    assert found["emotion_f1_micro_without_neutral"] == 2 * 1 / (2 + 3)
    assert found["non_neutral_f1_macro"] == pytest.approx(2 / 3)  # of anger: precision 1/1, recall 1/2
    found = metrics.list_metrics(labels, rows[0], []).values()
    assert {"… of targets other than plain", "label F1, micro without plain"} <= {metric.title for metric in found}
    texts = [text for each in found for text in (each.title, each.section, each.phrase, each.card) if text]
    assert not any(word in text for text in texts for word in ("neutral", "emotion", "{"))


def test_neutral_targets_alone_have_no_metrics_of_other_targets():
    found = compute([row(0, "neutral", "neutral")])
    assert all(math.isnan(found[name]) for name in ("non_neutral_accuracy", "emotion_f1_micro_without_neutral"))


def test_shares_lengths_and_perplexity_by_hand():
    found = compute(ROWS)
    assert [found[f"gibberish/{label}"] for label in LABELS] == [3 / 4, 0, 1 / 4]
    assert (found["ends_with_punctuation"], found["hit_max_new_tokens"]) == (3 / 4, 1 / 4)
    assert found["mean_new_tokens"] == (10 + 30 + 10 + 20) / 4
    assert found["length_ratio"] == (10 + 30 + 10 + 20) / 20
    uneven = [row(0, new_tokens=10, gold_tokens=5), row(1, new_tokens=10, gold_tokens=20)]
    assert compute(uneven)["mean_gold_length_ratio"] == (10 / 5 + 10 / 20) / 2
    uneven = [row(0, gold_logp=-2.0, gold_tokens=1), row(1, gold_logp=-6.0, gold_tokens=3)]
    assert compute(uneven)["gold_perplexity"] == pytest.approx(math.exp((2 + 6) / (1 + 3)))


def test_naming_by_hand():
    """anger: one followed and named, one named alone, two followed without; neutral: a word does not count."""
    rows = [
        row(0, names_emotion=True),
        row(1, predicted="fear", names_emotion=True),
        row(2, names_emotion=False),
        row(3, predicted="fear", names_emotion=False),
        row(4, names_emotion=False),
        row(5, "neutral", "neutral", names_emotion=True),
    ]
    found = compute(rows)
    assert found["names_emotion"] == 2 / 5
    assert found["followed_unnamed"] == 2 / 5
    assert "names_emotion" not in compute(ROWS) and "followed_unnamed" not in compute(ROWS)


def test_naming_counts_every_target_where_none_is_neutral_and_needs_no_classifier():
    labels = Labels(("anger", "neutral"), None)
    rows = [row(0, names_emotion=True), row(1, "neutral", names_emotion=False)]
    for each in rows:
        del each["predicted_emotion"], each["gold_emotion"]
    totals = measure(rows, labels)
    assert totals.compute(np.ones((1, 2)))["names_emotion"] == 1 / 2
    assert "followed_unnamed" not in totals.metrics


def test_the_second_classifier_by_hand():
    rows = [
        row(0, second_emotion="anger"),
        row(1, predicted="fear", second_emotion="anger"),
        row(2, predicted="fear", second_emotion="fear"),
        row(3, predicted="fear", second_emotion="fear"),
    ]
    found = compute(rows)
    assert (found["second_emotion_accuracy"], found["classifier_agreement"]) == (2 / 4, 3 / 4)
    assert found["emotion_accuracy"] == 1 / 4


def test_the_fit_is_a_mean_that_may_be_below_0():
    found = compute([row(0, fit=0.5, fit_first=True), row(1, fit=-2.0, fit_first=False)])
    assert (found["fit"], found["fit_rank_first"]) == (-0.75, 0.5)


def test_prompts_are_resampled_with_all_their_replies():
    rows = [row(0, sample=0), row(0, predicted="fear", sample=1), row(1, sample=0), row(1, sample=1)]
    totals = measure(rows)
    assert totals.prompts == 2
    # The first prompt twice; the second twice; each once.
    found = totals.compute(np.array([[2, 0], [0, 2], [1, 1]]))["emotion_accuracy"]
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
    assert columns.repeats_another_reply(rows).tolist() == [False, False, False, True, False, True]
    assert columns.copies_last_turn(rows).tolist() == [False, False, True, False, False, False]
    silent = row(response="", history=[{"role": "user", "content": {"emotion": "neutral", "dialog": "…"}}])
    assert not columns.copies_last_turn([silent])[0]


def test_gold_replies_become_predictions_once_a_prompt():
    rows = [row(0), row(0, sample=1), row(1, gold_response="Not yet ,")]
    first, second = gold_as_predictions(rows)
    assert (first["response"], first["predicted_emotion"], first["new_tokens"]) == ("It is pouring !", "surprise", 5)
    assert (first["ends_with_punctuation"], second["ends_with_punctuation"]) == (True, False)


def test_the_confusion_is_targets_by_predictions():
    counts = count_confusion(ROWS, EMOTION_LABELS)
    assert counts[1].tolist() == [1, 1, 0, 0, 0, 0, 0]  # anger: once taken for neutral, once followed
    assert counts.sum() == 4


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Yes .", True),
        ("Yes ! ", True),
        ('He said " no ? "', True),
        ("“ Yes . ”", True),
        ("我知道。", True),  # Chinese, with its own marks
        ("「真的？」", True),
        ("太好了！", True),
        ("嗯……", True),
        ("然後，", False),
        ("Well ,", False),
        ("Yes", False),
        ("", False),
    ],
)
def test_a_reply_ends_with_punctuation(reply, expected):
    assert ends_with_punctuation(reply) is expected
