"""The reward, against values that were calculated by hand from the formula."""

import pytest

from response_generator.config.scoring_schema import RewardArguments
from response_generator.labels import Labels
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.reward import compute_reward, read_penalized_words, score_length

HAPPY = LabelProbs({"happiness": 0.9, "anger": 0.1})


def clean(score: float) -> LabelProbs:
    return LabelProbs({"clean": score, "noise": 1 - score})


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        (0, -0.9),  # a = -1, b = -1: neither of the first two cases
        (5, 0.0),  # a = 0
        (9, 0.00008),  # a = 0.8
        (10, -0.45),  # a = 1, b = -0.5
        (11, 7.5),  # a = 1.2, b = -0.45
        (20, 30.0),  # a = 3, b = 0
        (39, 77.5),  # a = 6.8, b = 0.95
        (40, 0.9),  # a = 7, b = 1
        (60, 1.8),  # b = 2
    ],
)
def test_length(characters, expected):
    assert score_length(characters, 5, 20) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gibberish", "changes", "expected"),
    [
        (clean(0.8), {}, 3.6 + 7.5 + 2.8 + 0.001),
        (LabelProbs({"mild gibberish": 0.6}), {}, 3.6 + 7.5 + 0.105 + 0.001),
        (LabelProbs({"mild gibberish": 0.6}), {"mild_gibberish_scale": 5.0}, 3.6 + 7.5 + 1.05 + 0.001),
        (LabelProbs({"word salad": 0.7}), {}, 3.6 + 7.5 - 0.455 + 0.001),
        (clean(0.8), {"emotion_weight": 1.0, "length_weight": 0.0, "gibberish_weight": 0.0, "bias": 0.5}, 9.5),
    ],
)
def test_sum_of_the_parts(gibberish, changes, expected):
    reply = "x" * 20
    assert compute_reward(reply, HAPPY, gibberish, "happiness", RewardArguments(**changes), {}) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    ("text", "target", "penalty"),
    [
        ("I am so HAPPY today .", "happiness", 4.0),
        ("What happy people !", "anger", 0.0),  # it names another emotion
        ("That is great !", "happiness", 0.0),
        ("Neutral it is .", "neutral", 0.0),
        ("I am happy .", None, 0.0),
    ],
)
def test_naming_the_target_costs_the_penalty(text, target, penalty):
    labels = Labels(("neutral", "happiness", "anger"), "neutral")
    plain, penalized = RewardArguments(), RewardArguments(naming_penalty=4.0)
    assert read_penalized_words(plain, labels) == {}
    words = read_penalized_words(penalized, labels)
    without, found = (
        compute_reward(text, HAPPY, clean(0.8), target, *each) for each in ((plain, {}), (penalized, words))
    )
    assert without - found == pytest.approx(penalty)


@pytest.mark.parametrize(("weight", "fit", "part"), [(2.0, 0.75, 1.5), (2.0, -1.25, -2.5), (0.0, 0.75, 0.0)])
def test_the_fit_is_weighted_and_added(weight, fit, part):
    found = compute_reward("x" * 20, HAPPY, clean(0.8), "happiness", RewardArguments(fit_weight=weight), {}, fit)
    assert found == pytest.approx(3.6 + 7.5 + 2.8 + 0.001 + part)


def test_another_emotion_earns_nothing():
    args = RewardArguments(length_weight=0.0, gibberish_weight=0.0, bias=0.0)
    assert compute_reward("Fine .", HAPPY, clean(1.0), "anger", args, {}) == 0


def test_without_classifiers_the_length_alone_is_rewarded():
    only_length = RewardArguments(emotion_weight=0.0, gibberish_weight=0.0, length_weight=1.0, bias=0.0)
    expected = score_length(30, only_length.min_characters, only_length.max_characters)
    assert compute_reward("x" * 30, None, None, None, only_length, {}) == expected
