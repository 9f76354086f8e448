"""Which pairs come out of the candidates of one attempt."""

import json

import pytest
from tiny_models import EMOTION_LABELS

from response_generator.config.dataset_schema import FilterArguments
from response_generator.config.scoring_schema import FitScoringArguments, RewardArguments
from response_generator.data.datasets import Dialogue
from response_generator.preferences.attempts import Attempt
from response_generator.preferences.candidate_scorer import find_early_failure, find_failure_before_fit, score_attempt
from response_generator.preferences.pair_selection import NO_GOOD_AND_BAD_REPLY, select_pairs
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.reward import read_penalized_words

HISTORY = [{"role": "user", "content": {"emotion": "neutral", "dialog": "I got the job ."}}]
PROMPT = Dialogue(3, HISTORY, "happiness", "Congratulations !")
REWARD = RewardArguments(emotion_weight=1.0, length_weight=0.0, gibberish_weight=0.0, bias=0.0)


class Args:
    """The arguments that an attempt reads; the reward is 10 x the probability of happiness."""

    label_set = EMOTION_LABELS
    seed = 42

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


def find_pairs(texts, args, labels=LABELS) -> list[tuple[str, str]]:
    attempt = score_attempt(PROMPT, texts, labels, args, {})
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


FITS = {"Great !": -1.5, "So good .": 0.5, "Go away .": 0.25, PROMPT.gold_response: 1.0}


def test_the_fit_to_the_dialogue_changes_which_reply_is_the_best():
    args = Args()
    args.reward = REWARD.model_copy(update={"fit_weight": 2.0})
    texts = ["Great !", "So good .", "Go away ."]  # 9 - 3, 7 + 1, 0 + 0.5
    (pair,) = select_pairs(PROMPT, score_attempt(PROMPT, texts, LABELS, args, {}, FITS), args)
    assert (pair.chosen["dialog"], pair.chosen_score, pair.chosen_fit) == ("So good .", 8.0, 0.5)
    assert (pair.rejected["dialog"], pair.rejected_score, pair.rejected_fit) == ("Go away .", 0.5, 0.25)
    args.gold_as_chosen = True
    (pair,) = select_pairs(PROMPT, score_attempt(PROMPT, texts, LABELS, args, {}, FITS), args)
    assert (pair.chosen_score, pair.chosen_fit) == (6.0 + 2.0, 1.0)
    (pair,) = select_pairs(PROMPT, score_attempt(PROMPT, texts, LABELS, Args(), {}), Args())
    assert (pair.chosen["dialog"], pair.chosen_fit, pair.rejected_fit) == ("Great !", None, None)


@pytest.mark.parametrize(
    ("texts", "settings", "failure"),
    [
        (["Great !", "Go away ."], {"min_chosen_score": 13.15}, None),  # 9 + 2 ln 8 = 13.1589
        (["Great !", "Go away ."], {"min_chosen_score": 13.16}, "min_chosen_score"),
        (
            ["Great !", "So good ."],
            {"min_margin": 1000.0, "max_rejected_score": -1000.0},
            None,
        ),  # fit has no least value
        (["Go away .", "Leave ."], {"chosen_has_target_emotion": True}, "chosen_has_target_emotion"),
        (["Go away .", "Great !"], {"chosen_has_target_emotion": True}, None),
        # One pair fails at the first filter, the other at the second.
        (
            ["Wonderful news", "Go away ."],
            {"chosen_ends_with_punctuation": True, "chosen_has_target_emotion": True},
            "chosen_has_target_emotion",
        ),
        (["Great !", "So good ."], {"max_length_difference": 0}, "max_length_difference"),
        ([PROMPT.gold_response], {"gold_as_chosen": True}, "all replies are the same"),
        (["Great !"], {"gold_as_chosen": True, "min_chosen_score": 10.1}, None),  # 6 + 2 ln 8 = 10.1589
        (["Great !"], {"gold_as_chosen": True, "min_chosen_score": 10.2}, "min_chosen_score"),
        (["Great !", "So good ."], {"pair_selection": "best_random_failing"}, NO_GOOD_AND_BAD_REPLY),
        (["Great !", "Go away ."], {"pair_selection": "best_random_failing"}, None),
        (["Go away .", "Leave ."], {"pair_selection": "diverse"}, NO_GOOD_AND_BAD_REPLY),
        (["Go away .", "Leave ."], {"pair_selection": "diverse", "min_chosen_score": 4.0}, None),  # 2 ln 8 = 4.1589
        (["Great !", "Go away ."], {"pair_selection": "diverse"}, None),
    ],
)
def test_what_no_fit_can_save_is_known_before_it_is_measured(texts, settings, failure):
    args = Args(**settings)
    args.reward, args.scoring = REWARD.model_copy(update={"fit_weight": 2.0}), FitScoringArguments(fit_dialogues=7)
    labels = LABELS | {"Leave .": label(0.3)}
    assert find_failure_before_fit(PROMPT, texts, labels, args, {}) == failure


@pytest.mark.parametrize("gold_as_chosen", [False, True])
def test_an_attempt_survives_its_file(gold_as_chosen):
    args = Args(gold_as_chosen=gold_as_chosen)
    for attempt in (
        score_attempt(PROMPT, ALL, LABELS, args, {}),
        score_attempt(PROMPT, ALL, LABELS, args, {}, FITS),
        Attempt(["", ""], [], None, "all replies are the same"),
    ):
        again = Attempt.from_record(json.loads(json.dumps(attempt.to_record())))
        assert again == attempt
