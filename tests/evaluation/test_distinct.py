"""distinct-n in equal amounts of text, against values by hand and against all choices of replies."""

from itertools import combinations

import numpy as np
import pytest
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.statistics.distinct import Text, measure_distinct

REPLIES = ["I am fine .", "I am here .", "Am I ?", "Fine , fine , I am fine .", "Oh no !"]
# Tokens: 4, 4, 3, 8, 3. Pairs of tokens: 3, 3, 2, 7, 2.


def rows_of(replies: list[str], sample: int = 0) -> list[dict]:
    return [row(index, sample=sample, response=reply) for index, reply in enumerate(replies)]


def count_directly(replies: list[str], n: int) -> tuple[int, int]:
    """Different and all n-grams."""
    found = []
    for reply in replies:
        tokens = reply.lower().split()
        found += [tuple(tokens[place : place + n]) for place in range(len(tokens) - n + 1)]
    return len(set(found)), len(found)


def test_alone_it_is_different_by_all_ngrams():
    rows = rows_of(["I am fine .", "I am here .", "Am I ?"])
    # i am fine . | i am here . | am i ?  ->  i am fine . here ?: 6 of 11; pairs: i-am am-fine fine-. am-here here-.
    # am-i i-?: 7 of 8.
    one, size = measure_distinct({"a": [rows]}, 1)
    two, size_of_pairs = measure_distinct({"a": [rows]}, 2)
    assert (one["a"].values, size) == ([6 / 11], 11)
    assert (two["a"].values, size_of_pairs) == ([7 / 8], 8)
    # Without the first: i am here . ?; without the second: i am fine . ?; without the third: i am fine . here.
    assert one["a"].leave_one_out.tolist() == [5 / 7, 5 / 7, 5 / 8]
    assert two["a"].leave_one_out.tolist() == [5 / 5, 5 / 5, 5 / 6]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("drawn", [1, 2, 3, 4])
def test_of_a_part_it_is_the_mean_over_all_choices_of_so_many_replies(n, drawn):
    text = Text.of(REPLIES, n)
    size = text.size * drawn / len(REPLIES)  # what `drawn` replies have on average
    different = [count_directly(list(choice), n)[0] for choice in combinations(REPLIES, drawn)]
    assert text.distinct(size) == pytest.approx(np.mean(different) / size)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("drawn", [0.1, 0.9, 1.5, 2.75, 4.5])
def test_between_whole_numbers_of_replies_it_is_the_mean_of_more_and_fewer(n, drawn):
    text = Text.of(REPLIES, n)
    fewer = int(drawn)
    different = [
        np.mean([count_directly(list(choice), n)[0] for choice in combinations(REPLIES, number)])
        for number in (fewer, fewer + 1)
    ]
    size = text.size * drawn / len(REPLIES)
    assert text.distinct(size) == pytest.approx(np.interp(drawn, (fewer, fewer + 1), different) / size)


def test_it_is_never_above_1_beside_a_text_of_a_few_words():
    long = rows_of(["Is it far ? Yes , it is far .", "No , it is not far , is it ?"])
    found, size = measure_distinct({"short": [rows_of(["Yes .", "No"])], "long": [long]}, 1)
    assert size == 3
    different, every = zip(*(count_directly([each["response"]], 1) for each in long), strict=True)
    assert found["long"].values == pytest.approx([sum(different) / sum(every)])  # less than one reply is drawn


@pytest.mark.parametrize("n", [1, 2])
def test_without_each_prompt_it_is_that_of_the_text_without_its_reply(n):
    text = Text.of(REPLIES, n)
    rest = [Text.of(REPLIES[:place] + REPLIES[place + 1 :], n) for place in range(len(REPLIES))]
    sizes = np.array([each.size for each in rest]) - np.array([0, 1, 2, 3, 4])
    expected = [each.distinct(size) for each, size in zip(rest, sizes, strict=True)]
    assert text.distinct_without(sizes) == pytest.approx(expected)
    assert np.isnan(text.distinct_without(np.zeros(5, int))).all()


def make_replies(random: np.random.Generator, sentences: int) -> list[str]:
    """100 replies of some sentences of five words, all from one distribution."""
    words = [f"word{number}" for number in range(400)]
    weights = 1 / np.arange(1, 401)
    return [" ".join(random.choice(words, 5 * sentences, p=weights / weights.sum())) + " ." for _ in range(100)]


def test_a_model_that_only_writes_more_of_the_same_is_not_less_varied():
    random = np.random.default_rng(0)
    short, long = rows_of(make_replies(random, 2)), rows_of(make_replies(random, 5))
    plain = [count_directly([each["response"] for each in rows], 2) for rows in (short, long)]
    assert plain[0][0] / plain[0][1] - plain[1][0] / plain[1][1] > 0.1  # what length alone does
    found = compare_models({"short": short, "long": long}, EMOTION_LABELS, LABELS, 200, seed=1)
    for name in ("distinct_1", "distinct_2"):
        difference = found.differences["long"][name]
        assert abs(difference.value) < 0.03 and difference.low < 0 < difference.high
    # The gold reply has the fewest n-grams: "It is pouring !" has three pairs.
    assert found.ngrams == {"distinct_1": 400, "distinct_2": 300}
    assert found.flatten()["distinct_2_ngrams"] == 300


def test_more_samples_of_the_same_text_are_no_less_varied_than_the_gold_replies():
    replies = make_replies(np.random.default_rng(1), 2)
    once = [each | {"gold_response": each["response"]} for each in rows_of(replies)]
    twice = sorted([*once, *(each | {"sample": 1} for each in once)], key=lambda each: (each["index"], each["sample"]))
    found = compare_models({"adapter": twice}, EMOTION_LABELS, LABELS, 200, seed=1)
    different, every = count_directly(replies, 2)
    assert found.estimates["adapter"]["distinct_2"].value == different / every
    assert found.estimates["adapter"]["distinct_2"] == found.estimates["gold"]["distinct_2"]
    assert found.gold_differences["adapter"]["distinct_2"].value == 0


def test_without_any_ngram_nothing_is_compared():
    found = compare_models(
        {"a": rows_of(["Yes", "No"]), "b": rows_of(["I am fine .", "So am I ."])}, EMOTION_LABELS, LABELS, 200, 1
    )
    assert found.estimates["a"]["distinct_1"].value == 1
    assert "distinct_2" not in found.estimates["a"] and "distinct_2" not in found.estimates["b"]
