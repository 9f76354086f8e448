"""Which of several replies is the best."""

import pytest
from tiny_models import EMOTION_LABELS

from response_generator.config.scoring_schema import BestOfArguments, RewardArguments
from response_generator.errors import InputError
from response_generator.scoring.best_of import ReplyScorer, check_choosing_classifiers, choose_best, score_reply
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.reward import compute_reward

SAD, ANGRY = LabelProbs({"sadness": 0.6, "anger": 0.4}), LabelProbs({"sadness": 0.3, "anger": 0.7})
CLEAN = LabelProbs({"clean": 0.9, "noise": 0.1})


def test_the_target_is_looked_up_in_the_probabilities_whatever_the_label_is():
    by_probability = BestOfArguments()
    assert score_reply("I see .", SAD, None, "anger", by_probability, {}) == 0.4
    assert score_reply("I see .", ANGRY, CLEAN, "anger", by_probability, {}) == 0.7


def test_the_reward_is_that_of_the_preference_pairs():
    weights = RewardArguments(emotion_weight=1.0, length_weight=0.5, gibberish_weight=0.25)
    text = "That is no good news at all ."
    score = score_reply(text, ANGRY, CLEAN, "anger", BestOfArguments(choose_by="reward", reward=weights), {})
    assert score == pytest.approx(compute_reward(text, ANGRY, CLEAN, "anger", weights, {}), abs=1e-6)
    default = score_reply(text, ANGRY, CLEAN, "anger", BestOfArguments(choose_by="reward"), {})
    assert default == pytest.approx(compute_reward(text, ANGRY, CLEAN, "anger", RewardArguments(), {}), abs=1e-6)
    assert default != score


@pytest.mark.parametrize(
    ("texts", "scores", "best"),
    [
        (["a", "b", "c"], [0.1, 0.9, 0.5], 1),
        (["a", "b", "c"], [0.1, 0.9, 0.9], 1),  # the first of equal ones
        (["a", "", "c"], [0.1, 0.9, -3.0], 0),  # no text is worse than any text
        (["", ""], [0.1, 0.9], 1),
    ],
)
def test_the_first_of_the_greatest_scores_that_has_text_is_chosen(texts, scores, best):
    assert choose_best(texts, scores) == best


def test_each_reply_is_scored_for_its_own_target(tiny):
    scorer = ReplyScorer(BestOfArguments(scoring={"emotion_model": str(tiny.folder / "emotion")}), EMOTION_LABELS)
    texts, targets = ["I am sad .", "Good !", "I am sad ."], ["sadness", "anger", "fear"]
    found = scorer.emotions.classify(["I am sad .", "Good !"])
    first, second, third = scorer.score(texts, targets)
    assert first == pytest.approx(found[0].probabilities["sadness"], abs=1e-5)
    assert second == pytest.approx(found[1].probabilities["anger"], abs=1e-5)
    assert third == pytest.approx(found[0].probabilities["fear"], abs=1e-5)
    assert first != third


def test_a_reply_that_names_its_emotion_can_be_passed_over(tiny):
    weights = {"emotion_weight": 0, "gibberish_weight": 0, "length_weight": 0, "naming_penalty": 2.5}
    best_of = BestOfArguments(choose_by="reward", reward=weights)
    names, shows = "I am angry .", "Leave me alone ."
    assert ReplyScorer(best_of, EMOTION_LABELS).score([names, shows], ["anger", "anger"]) == [-2.499, 0.001]
    assert ReplyScorer(best_of, EMOTION_LABELS).score([names, shows], ["fear", "neutral"]) == [0.001, 0.001]


def test_an_error_names_the_section_of_the_classifier(tiny):
    best_of = BestOfArguments(scoring={"emotion_model": str(tiny.folder / "gibberish")})
    with pytest.raises(InputError, match="^best_of.scoring.emotion_model: .* map them with best_of.scoring.emotion_l"):
        check_choosing_classifiers(best_of, EMOTION_LABELS)
