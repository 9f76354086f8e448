"""Scale and biases that are fitted to logits, against scikit-learn and conditions of the maximum; and their file."""

import json

import numpy as np
import pytest
import torch
from conftest import read_json
from sklearn.linear_model import LogisticRegression
from tiny_models import EMOTION_LABELS, write_tiny_classifier

from response_generator.config.scoring_schema import ScoringArguments
from response_generator.errors import InputError
from response_generator.runs import weights
from response_generator.scoring.calibration import Calibration, fit_calibration, read_calibration, write_calibration
from response_generator.scoring.classifiers import check_classifiers, load_emotion_classifier

NAMES = ["neutral", "anger", "fear"]


@pytest.fixture
def texts() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    gold = generator.choice(3, 400, p=[0.8, 0.15, 0.05])
    return 3 * generator.normal(size=(400, 3)) + 2 * np.eye(3)[gold], gold


def test_of_two_labels_it_is_logistic_regression_of_the_difference_of_logits(texts):
    logits, gold = texts
    logits, gold = logits[gold < 2, :2], gold[gold < 2]
    found = fit_calibration(logits, gold, NAMES[:2], 0.0)
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(np.diff(logits, axis=1), gold)
    assert found.scale == pytest.approx(regression.coef_[0, 0], rel=1e-4)
    assert found.biases["anger"] - found.biases["neutral"] == pytest.approx(regression.intercept_[0], rel=1e-4)


def test_of_three_labels_the_likelihood_is_at_its_maximum(texts):
    """There, each label's mean probability is its frequency, and no other scale or biases are likelier."""
    logits, gold = texts
    found = fit_calibration(logits, gold, NAMES, 0.0)
    probabilities = found.compute_probabilities(logits)
    assert probabilities.mean(axis=0) == pytest.approx(np.bincount(gold) / 400, abs=1e-5)

    def compute_likelihood(scale: float, biases: list[float]) -> float:
        scores = torch.tensor(scale * logits + biases)
        return -torch.nn.functional.cross_entropy(scores, torch.tensor(gold)).item()

    biases = list(found.biases.values())
    best = compute_likelihood(found.scale, biases)
    assert best > compute_likelihood(1.0, [0.0] * 3)
    for step in (-0.01, 0.01):
        assert best > compute_likelihood(found.scale + step, biases)
        for number in range(3):
            assert best > compute_likelihood(
                found.scale, [*biases[:number], biases[number] + step, *biases[number + 1 :]]
            )
    assert sum(biases) == pytest.approx(0)


def test_the_label_balance_takes_the_labels_for_more_equally_frequent(texts):
    """By Bayes' theorem: the odds of two labels are divided by the odds of their frequencies, to that power."""
    logits, gold = texts
    frequencies = np.bincount(gold) / 400
    before = fit_calibration(logits, gold, NAMES, 0.0).compute_probabilities(logits)
    for balance in (0.5, 1.0):
        after = fit_calibration(logits, gold, NAMES, balance).compute_probabilities(logits)
        odds = (before[:, 2] / before[:, 0]) * (frequencies[0] / frequencies[2]) ** balance
        assert after[:, 2] / after[:, 0] == pytest.approx(odds)
    assert (after.argmax(axis=1) == 2).sum() > (before.argmax(axis=1) == 2).sum()


def test_labels_that_are_always_right_have_a_finite_scale():
    found = fit_calibration(np.eye(3) * 9, np.arange(3), NAMES, 0.0)
    assert 1 < found.scale <= 100
    assert found.compute_probabilities(np.eye(3) * 9).argmax(axis=1).tolist() == [0, 1, 2]


@pytest.fixture
def classifier(tiny, tmp_path):
    write_tiny_classifier(tmp_path / "classifier", tiny.folder / "base", EMOTION_LABELS.names)
    return tmp_path / "classifier"


def test_a_classifier_uses_the_file_in_its_folder(classifier):
    scoring = ScoringArguments(emotion_model=str(classifier), batch_size=2)
    words = ["I got the job !", "No .", "What a strange smell , who left it there ?"]
    plain = load_emotion_classifier(scoring)
    batch = plain.tokenizer(words, return_tensors="pt", padding=True)
    with torch.inference_mode():
        logits = plain.model(**batch).logits
    biases = {name: number / 10 for number, name in enumerate(EMOTION_LABELS.names)}
    before = weights.identify(str(classifier), downloaded=False)
    write_calibration(Calibration(2.5, dict(reversed(biases.items()))), classifier)
    expected = (2.5 * logits + torch.tensor(list(biases.values()))).softmax(-1)
    check_classifiers(scoring, EMOTION_LABELS)
    for found, row in zip(load_emotion_classifier(scoring).classify(words), expected.tolist(), strict=True):
        assert list(found.probabilities.values()) == pytest.approx(row, abs=1e-6)
    uncalibrated = plain.classify(words)
    assert list(uncalibrated[0].probabilities.values()) == pytest.approx(logits.softmax(-1)[0].tolist(), abs=1e-6)
    # A run that has begun with another calibration is not continued with this one.
    assert weights.identify(str(classifier), downloaded=False).keys() - before.keys() == {"calibration.json"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": 0}, "scale: Input should be greater than"),
        ({"scale": None}, "scale: Input should be a valid number"),
        (
            {"biases": {"neutral": 0.0}},
            "biases: got neutral; needed: one of each label of the classifier: neutral, anger",
        ),
        ({"biases": {"neutral": "0"}}, "biases.neutral: Input should be a valid number"),
        ({"more": 1}, "more: Unexpected keyword argument"),
    ],
)
def test_a_damaged_file_is_found_before_anything_is_loaded(classifier, change, words):
    write_calibration(Calibration(1.0, dict.fromkeys(EMOTION_LABELS.names, 0.0)), classifier)
    file = classifier / "calibration.json"
    file.write_text(json.dumps(read_json(file) | change), encoding="utf-8")
    (classifier / "model.safetensors").unlink()
    with pytest.raises(InputError) as error:
        check_classifiers(ScoringArguments(emotion_model=str(classifier)), EMOTION_LABELS)
    assert str(error.value).startswith(f"scoring.emotion_model: {file}: ") and words in str(error.value)


def test_a_classifier_without_the_file_has_no_calibration(classifier):
    assert read_calibration(str(classifier), list(EMOTION_LABELS.names)) is None
