"""What is measured of a classifier, against scikit-learn, statsmodels and by hand; and the file that keeps it."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from statsmodels.stats.proportion import proportion_confint

from response_generator.errors import InputError
from response_generator.scoring.quality import (
    QUALITY_FILE,
    ClassifierQuality,
    compute_calibration_error,
    keep_quality,
    list_metrics,
    measure_dataset,
    read_quality,
    write_quality,
)

LABELS = ("neutral", "anger", "fear", "joy")


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of 200 texts; no text has the last label, and nobody predicts the third one."""
    generator = np.random.default_rng(0)
    gold = generator.choice(3, 200, p=[0.7, 0.2, 0.1])
    logits = generator.normal(size=(200, 4)) + 1.5 * np.eye(4)[gold]
    logits[:, 2] = -9
    return gold, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_averages_and_labels_are_those_of_scikit_learn(drawn):
    gold, probabilities = drawn
    predicted = probabilities.argmax(axis=1)
    data = measure_dataset(gold, probabilities, np.arange(200), seed=0)
    assert data.confusion == tuple(map(tuple, sklearn_metrics.confusion_matrix(gold, predicted, labels=range(4))))
    occurring = {"labels": range(3), "average": "macro", "zero_division": 0}
    assert data.accuracy[0] == sklearn_metrics.accuracy_score(gold, predicted)
    assert data.macro_recall[0] == pytest.approx(sklearn_metrics.recall_score(gold, predicted, **occurring))
    assert data.macro_f1[0] == pytest.approx(sklearn_metrics.f1_score(gold, predicted, **occurring))
    assert data.majority_accuracy == np.bincount(gold).max() / 200
    precision, recall, f1, counts = sklearn_metrics.precision_recall_fscore_support(
        gold, predicted, labels=range(4), zero_division=np.nan
    )
    found = ClassifierQuality(LABELS, {"test": data}).measure_labels("test")
    assert [each.label for each in found] == list(LABELS)
    assert [each.count for each in found] == counts.tolist()
    expected = [None if np.isnan(value) else pytest.approx(value) for value in precision]
    assert [each.precision for each in found] == expected and expected[2] is None
    assert [each.recall and each.recall[0] for each in found] == [*map(pytest.approx, recall[:3]), None]
    assert [each.f1 for each in found[:3]] == pytest.approx(f1[:3].tolist())
    right = int(((gold == 1) & (predicted == 1)).sum())
    assert found[1].recall[1:] == pytest.approx(proportion_confint(right, counts[1], method="beta"))


def test_intervals_are_those_of_a_direct_bootstrap_of_whole_dialogues(drawn):
    """With dialogues of 10 equal turns, an interval is as wide as one of a tenth of the texts."""
    gold, probabilities = drawn
    dialogues, turns = (each.repeat(10, axis=0) for each in (gold, probabilities))
    data = measure_dataset(dialogues, turns, np.arange(2000) // 10, seed=1)
    generator = np.random.default_rng(2)
    predicted = probabilities.argmax(axis=1)
    values = []
    for _ in range(1000):
        drawn_texts = generator.integers(200, size=200)
        values.append(np.mean(gold[drawn_texts] == predicted[drawn_texts]))
    width = np.subtract(*np.quantile(values, [0.975, 0.025]))
    assert data.accuracy[2] - data.accuracy[1] == pytest.approx(width, rel=0.15)
    alone = measure_dataset(dialogues, turns, np.arange(2000), seed=1)
    assert alone.accuracy[2] - alone.accuracy[1] == pytest.approx(width / 10**0.5, rel=0.15)
    for each in (data.macro_recall, data.macro_f1, data.accuracy):
        assert each[1] < each[0] < each[2]


def test_an_accuracy_that_no_resample_changes_has_an_exact_interval():
    data = measure_dataset(np.array([0, 1, 2]), np.eye(4)[:3], np.arange(3), seed=0)
    assert data.accuracy == pytest.approx((1, 0.025 ** (1 / 3), 1))


def test_the_calibration_error_by_hand():
    """In the bin (12/15, 13/15]: 0.85 twice, one right: |1 - 1.7|; in (9/15, 10/15]: 2/3, the bound, right: 1/3; in
    (10/15, 11/15]: 0.7, wrong; in the last bin: 1.0, wrong."""
    confidence = np.array([0.85, 0.85, 2 / 3, 0.7, 1.0])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    error = compute_calibration_error(np.array([0, 1, 0, 1, 1]), probabilities)
    assert error == pytest.approx((0.7 + 1 / 3 + 0.7 + 1) / 5)


def test_metrics_leave_out_what_has_no_value(drawn):
    quality = ClassifierQuality(LABELS, {"a test": measure_dataset(*drawn, np.arange(200), seed=0)})
    metrics = list_metrics(quality)
    data = quality.data_sets["a test"]
    assert metrics["a test/texts"] == 200
    assert [metrics[f"a test/macro_f1{end}"] for end in ("", "/low", "/high")] == list(data.macro_f1)
    assert metrics["a test/recall/anger"] == data.confusion[1][1] / sum(data.confusion[1])
    assert metrics["a test/count/joy"] == 0 and "a test/recall/joy" not in metrics
    assert "a test/precision/fear" not in metrics and metrics["a test/f1/fear"] == 0


def test_a_run_keeps_the_quality_of_the_classifier_that_labeled_its_replies(drawn, tmp_path):
    quality = ClassifierQuality(LABELS, {"a test": measure_dataset(*drawn, np.arange(200), seed=0)})
    keep_quality(quality, tmp_path)
    assert read_quality(str(tmp_path)) == quality
    keep_quality(None, tmp_path)
    keep_quality(None, tmp_path)
    assert read_quality(str(tmp_path)) is None


def test_the_file_is_read_as_it_was_written(drawn, tmp_path):
    assert read_quality(str(tmp_path)) is None
    quality = ClassifierQuality(LABELS, {"a test": measure_dataset(*drawn, np.arange(200), seed=0)})
    write_quality(quality, tmp_path)
    assert read_quality(str(tmp_path)) == quality
    written = json.loads((tmp_path / QUALITY_FILE).read_text(encoding="utf-8"))
    assert written.keys() == {"labels", "data_sets"} and written["labels"] == list(LABELS)
    averages = {"accuracy", "macro_recall", "macro_f1"}
    assert written["data_sets"]["a test"].keys() == {"confusion", "calibration_error", *averages}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data["confusion"].pop(), "a row and a column for each label"),
        (lambda data: data["confusion"][0].pop(), "a row and a column for each label"),
        (lambda data: data["confusion"][0].__setitem__(0, -1), "confusion.0.0: Input should be greater than or equal"),
        (lambda data: data.update(confusion=[[0] * 4] * 4), "confusion of a test: needed: texts"),
        (lambda data: data.pop("accuracy"), "accuracy: Field required"),
        (lambda data: data.update(macro_f1=[0.5, 0.4]), "macro_f1"),
        (lambda data: data.update(calibration_error="0.1"), "calibration_error: Input should be a valid number"),
    ],
)
def test_a_damaged_file_is_named(drawn, tmp_path, damage, words):
    write_quality(ClassifierQuality(LABELS, {"a test": measure_dataset(*drawn, np.arange(200), seed=0)}), tmp_path)
    file = tmp_path / QUALITY_FILE
    content = json.loads(file.read_text(encoding="utf-8"))
    damage(content["data_sets"]["a test"])
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="restore it, or train the classifier again") as error:
        read_quality(str(tmp_path))
    assert str(error.value).startswith(f"{file}: ") and words in str(error.value)
    file.write_text(json.dumps(content)[:50], encoding="utf-8")
    with pytest.raises(InputError, match="Invalid JSON"):
        read_quality(str(tmp_path))
