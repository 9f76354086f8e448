"""Which candidates become a pair by a random failing reply, and by diversity."""

from collections import Counter
from dataclasses import replace

import pytest
from test_attempts import LABELS, PROMPT, Args, find_pairs, label

from response_generator.preferences.candidate_scorer import score_attempt
from response_generator.preferences.pair_selection import NO_GOOD_AND_BAD_REPLY, measure_diversity, select_pairs

# The reward is 10 x the probability of happiness where that is the label, else 0.
LABELS = LABELS | {
    "Leave .": label(0.3),
    "Oh no .": label(0.4),
    "That is great news !": label(0.9),
    "That is great !": label(0.8),
    "Wonderful !": label(0.6),
    "That is bad !": label(0.1),
    "Go away now .": label(0.2),
    "Fine !": label(0.7, clean=0.1),
}
FAILING = ["Go away .", "Leave .", "Oh no ."]


def find(texts, args) -> list[tuple[str, str]]:
    return find_pairs(texts, args, LABELS)


def find_failure(texts, args) -> str | None:
    return score_attempt(PROMPT, texts, LABELS, args, {}).failure


def test_rejected_is_a_random_one_of_those_without_the_target_emotion():
    texts = ["So good .", *FAILING, "Great !", "Great !"]
    args = Args("best_random_failing")
    found = Counter()
    for args.seed in range(300):
        ((chosen, rejected),) = find(texts, args)
        assert chosen == "Great !"
        found[rejected] += 1
        assert find(texts, args) == [(chosen, rejected)]  # once more
    assert set(found) == set(FAILING) and min(found.values()) > 70  # 100 each, with a standard deviation of 8


def test_prompts_and_attempts_have_draws_of_their_own():
    args, texts = Args("best_random_failing"), ["Great !", *FAILING]

    def draw(index: int, order: list[str]) -> str:
        prompt = replace(PROMPT, index=index)
        (pair,) = select_pairs(prompt, score_attempt(prompt, order, LABELS, args, {}), args)
        return pair.rejected["dialog"]

    assert {draw(index, texts) for index in range(20)} == set(FAILING)
    assert {draw(3, [*texts, *["Great !"] * more]) for more in range(20)} == set(FAILING)


def test_the_random_one_is_drawn_from_those_with_which_the_pair_passes():
    texts = ["Great !", *FAILING]  # 2 words; 3, 2 and 3
    for seed in range(10):
        args = Args("best_random_failing", max_length_difference=0)
        args.seed = seed
        assert find(texts, args) == [("Great !", "Leave .")]


def test_the_best_reply_that_the_filters_of_chosen_let_through():
    filters = {"chosen_ends_with_punctuation": True}
    assert find(["Wonderful news", "So good .", "Leave ."], Args("best_random_failing", **filters)) == [
        ("So good .", "Leave .")
    ]
    gold = Args("best_random_failing", gold_as_chosen=True)
    assert find(["Great !", "Leave ."], gold) == [("Congratulations !", "Leave .")]


def test_without_a_failing_reply_there_is_no_pair():
    args = Args("best_random_failing")
    assert find_failure(["Great !", "So good ."], args) == NO_GOOD_AND_BAD_REPLY
    assert find_failure(["Great !", "So good ."], Args("best_random_failing", min_margin=4.0)) == "min_margin"


@pytest.mark.parametrize("selection", ["best_random_failing", "diverse"])
def test_rejected_never_has_the_greater_reward(selection):
    args = Args(selection)
    args.reward = args.reward.model_copy(update={"gibberish_weight": 1.0})
    # Fine: 7 - 1.1 (0.9 for noise, less 2); Leave: 9 for clean alone.
    assert find_failure(["Fine !", "Leave ."], args) == NO_GOOD_AND_BAD_REPLY
    assert find(["Fine !", "Leave ."], args) == []


def test_diversity_by_hand():
    # Bigrams: a b, b c; a b, b d; x y. The first two share one of three.
    assert measure_diversity(["a b c", "A B d", "x y"]) == [0.8333, 0.8333, 1.0]
    assert measure_diversity(["Fine .", "fine .", "No"]) == [0.5, 0.5, 1.0]
    assert measure_diversity(["No", "no"]) == [0.0, 0.0]
    assert measure_diversity(["No"]) == [0.0]


DIVERSE = ["That is great news !", "That is great !", "Wonderful !", "That is bad !", "Go away now ."]


def test_the_most_diverse_good_and_the_least_diverse_bad_reply():
    # Bigrams: 4, 3, 1, 3 and 3. The first and second share 2 of 5, first and fourth 1 of 6, second and fourth 1 of 5.
    assert measure_diversity(DIVERSE) == [0.8583, 0.85, 1.0, 0.9083, 1.0]
    assert find(DIVERSE, Args("diverse")) == [("Wonderful !", "That is bad !")]
    assert find(DIVERSE, Args()) == [("That is great news !", "That is bad !")]
    assert find(DIVERSE, Args("diverse", gold_as_chosen=True)) == [("Congratulations !", "That is bad !")]
    # The pair with the least diverse one does not pass: 2 words beside 4.
    without = ["That is great !", "That is bad !", "Wonderful !", "Leave ."]
    assert find(without, Args("diverse", max_length_difference=0)) == [("Wonderful !", "Leave .")]


def test_a_threshold_of_the_reward_tells_good_from_bad():
    assert find(DIVERSE, Args("diverse", min_chosen_score=7.0)) == [("That is great news !", "That is bad !")]
    # Diversity 0.8, 0.8 and 1; the second has the target emotion, but not the reward.
    assert find(DIVERSE[:3], Args("diverse", min_chosen_score=8.5)) == [("That is great news !", "That is great !")]
    assert find_failure(DIVERSE[:3], Args("diverse")) == NO_GOOD_AND_BAD_REPLY
    assert find_failure(DIVERSE[3:], Args("diverse")) == NO_GOOD_AND_BAD_REPLY  # none has the target emotion


def test_of_equally_diverse_replies_the_rewards_decide():
    args = Args("diverse")
    args.reward = args.reward.model_copy(update={"gibberish_weight": 0.1})
    labels = {"So good .": label(0.7), "Great !": label(0.9), "Oh no .": label(0.4), "Leave .": label(0.3, clean=0.2)}
    attempt = score_attempt(PROMPT, list(labels), labels, args, {})
    (pair,) = select_pairs(PROMPT, attempt, args)
    assert (pair.chosen["dialog"], pair.rejected["dialog"]) == ("Great !", "Leave .")


def test_a_reply_above_the_threshold_needs_no_emotion():
    labels = {"Leave .": label(0.3), "Oh no .": label(0.4, clean=0.1)}
    for filters, pairs in (({"min_chosen_score": 5.0}, [("Leave .", "Oh no .")]), ({}, [])):
        args = Args("diverse", **filters)
        args.reward = args.reward.model_copy(update={"gibberish_weight": 1.0})  # 9, and 0.9 - 2 for noise
        assert find_pairs(list(labels), args, labels) == pairs
