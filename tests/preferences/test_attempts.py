"""Which pairs come out of the candidates of one attempt."""

import json

import pytest
from tiny_models import EMOTION_LABELS

from response_generator.config.dataset_schema import FilterArguments
from response_generator.config.scoring_schema import RewardArguments
from response_generator.data.datasets import Dialogue
from response_generator.preferences.attempts import Attempt
from response_generator.preferences.candidate_scorer import find_early_failure, score_attempt
from response_generator.preferences.pair_selection import select_pairs
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.reward import read_penalized_words

HISTORY = [{"role": "user", "content": {"emotion": "neutral", "dialog": "I got the job ."}}]
PROMPT = Dialogue(3, HISTORY, "happiness", "Congratulations !")
REWARD = RewardArguments(emotion_weight=1.0, length_weight=0.0, gibberish_weight=0.0, bias=0.0)


class Args:
    """The arguments that an attempt reads; the reward is 10 x the probability of happiness."""

    label_set = EMOTION_LABELS

    def __init__(self, pair_selection="best_worst", gold_as_chosen=False, **filters):
        self.pair_selection, self.gold_as_chosen = pair_selection, gold_as_chosen
        self.reward, self.filters = REWARD, FilterArguments(**filters)


def label(happiness: float, clean: float = 0.9):
    emotion = "happiness" if happiness > 0.5 else "anger"
    probability = max(happiness, 1 - happiness)
    return LabelProbs({emotion: probability}), LabelProbs({"clean": clean, "noise": 1 - clean})


LABELS = {
    "Great !": label(0.9),
    "So good .": label(0.7),
    "Wonderful news": label(0.8),
    "Go away .": label(0.2),
    PROMPT.gold_response: label(0.6),
}
ALL = ["So good .", "Go away .", "Wonderful news", "Great !"]


def find_pairs(texts, args) -> list[tuple[str, str]]:
    attempt = score_attempt(PROMPT, texts, LABELS, args, {})
    pairs = select_pairs(PROMPT, attempt, args)
    assert (attempt.failure is None) == bool(pairs)
    return [(pair.chosen["dialog"], pair.rejected["dialog"]) for pair in pairs]


def test_the_best_and_the_worst_candidate():
    assert find_pairs(ALL, Args()) == [("Great !", "Go away .")]
    assert find_pairs(ALL, Args(gold_as_chosen=True)) == [("Congratulations !", "Go away .")]


def test_every_two_candidates_above_a_margin():
    # Rewards: Great 9, Wonderful 8, So good 7, Go away 0 (its label is another emotion).
    assert set(find_pairs(ALL, Args("all", min_margin=1.5))) == {
        ("Great !", "So good ."),
        ("Great !", "Go away ."),
        ("Wonderful news", "Go away ."),
        ("So good .", "Go away ."),
    }
    assert find_pairs(ALL, Args("all", gold_as_chosen=True, min_margin=1.5)) == [("Congratulations !", "Go away .")]


def test_the_greatest_margin_of_all_that_pass():
    # Words: Great 2, Wonderful 2, So good 3, Go away 3; rewards as above.
    assert find_pairs(ALL, Args("best_passing")) == [("Great !", "Go away .")]
    assert find_pairs(ALL, Args("best_passing", max_length_difference=0)) == [("So good .", "Go away .")]
    assert find_pairs(ALL, Args("best_worst", max_length_difference=0)) == []
    without = ["Great !", "So good .", "Wonderful news"]
    assert find_pairs(without, Args("best_passing", max_length_difference=0)) == [("Great !", "Wonderful news")]
    with_gold = Args("best_passing", gold_as_chosen=True, max_length_difference=1)
    assert find_pairs(ALL, with_gold) == [("Congratulations !", "Go away .")]


def test_a_penalty_makes_a_reply_that_names_its_emotion_the_worst():
    args = Args()
    args.reward = REWARD.model_copy(update={"naming_penalty": 9.5})
    words = read_penalized_words(RewardArguments(naming_penalty=9.5, emotion_words=None), EMOTION_LABELS)
    labels = LABELS | {"I am happy !": label(0.9)}  # 9 - 9.5
    texts = ["I am happy !", "So good .", "Go away ."]
    pairs = select_pairs(PROMPT, score_attempt(PROMPT, texts, labels, args, words), args)
    assert [(pair.chosen["dialog"], pair.rejected["dialog"]) for pair in pairs] == [("So good .", "I am happy !")]


@pytest.mark.parametrize(
    ("texts", "filters", "failure"),
    [
        (["Great !", "So good ."], {"min_margin": 4.0}, "min_margin"),
        (["So good .", "Go away ."], {"min_chosen_score": 8.0}, "min_chosen_score"),
        (["Wonderful news", "Go away ."], {"chosen_ends_with_punctuation": True}, "chosen_ends_with_punctuation"),
        (["So good .", "Great !"], {"max_length_difference": 0}, "max_length_difference"),
        (["Go away .", "Great !"], {"chosen_gibberish_labels": ["noise"]}, "chosen_gibberish_labels"),
    ],
)
def test_the_first_failed_filter_is_named(texts, filters, failure):
    assert score_attempt(PROMPT, texts, LABELS, Args(**filters), {}).failure == failure


def test_only_pairs_of_all_that_pass_are_kept():
    args = Args("all", chosen_ends_with_punctuation=True, min_margin=1.0)
    assert find_pairs(["Wonderful news", "So good .", "Go away ."], args) == [("So good .", "Go away .")]


def test_what_cannot_pass_is_not_classified():
    assert find_early_failure(["Great !", "Great !", ""], Args()) == "all replies are the same"
    assert find_early_failure(["Great !", "Great !"], Args(gold_as_chosen=True)) is None
    assert find_early_failure(["", ""], Args(gold_as_chosen=True)) == "all replies are the same"
    cut_off = Args(chosen_ends_with_punctuation=True)
    assert find_early_failure(["and then", "if it"], cut_off) == "chosen_ends_with_punctuation"
    assert find_early_failure(["and then", "If so ."], cut_off) is None


@pytest.mark.parametrize("gold_as_chosen", [False, True])
def test_an_attempt_survives_its_file(gold_as_chosen):
    args = Args(gold_as_chosen=gold_as_chosen)
    for attempt in (
        score_attempt(PROMPT, ALL, LABELS, args, {}),
        Attempt(["", ""], [], None, "all replies are the same"),
    ):
        again = Attempt.from_record(json.loads(json.dumps(attempt.to_record())))
        assert again == attempt
