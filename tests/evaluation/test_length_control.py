"""Two models at equal length: replies cut off at the same word, and a regression on the difference in words."""

import numpy as np
import pytest
import statsmodels.api as sm
from length_control import measure
from statsmodels.stats.contingency_tables import mcnemar
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.statistics.length_control import cut_to_equal_length, fit_intercepts
from response_generator.evaluation.statistics.training_seeds import widen_estimate

CUT, CONTROLLED = "accuracy_at_equal_length", "length_controlled_accuracy"


def reply(index: int, emotions: str, **changes) -> dict:
    """A reply to a target of anger with one word for each letter: its emotion from that word on, a(nger) or f(ear)."""
    names = [{"a": "anger", "f": "fear"}[letter] for letter in emotions]
    predicted = names[-1] if names else "fear"
    words = " ".join(f"word{index}" for _ in names)
    return row(index, "anger", predicted, response=words, emotion_at_words=names or ["fear"], **changes)


def draw_replies(seed: int, prompts: int, words: int, **changes) -> list[dict]:
    """Replies of about so many words that turn from fear to anger at a random word."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(prompts):
        count, turn = random.integers(1, 2 * words), random.integers(0, 20)
        rows.append(reply(index, "".join("a" if word >= turn else "f" for word in range(count)), **changes))
    return rows


def compare(rows: dict[str, list[dict]]):
    return compare_models(rows, EMOTION_LABELS, LABELS, 500, seed=1)


def test_two_replies_are_cut_to_the_words_of_the_shorter_one():
    one = [reply(0, "fa"), reply(1, "ffffa"), reply(2, "")]
    other = [reply(0, "ffa"), reply(1, "a"), reply(2, "aff")]
    cut = cut_to_equal_length(one, other)
    assert [[each["predicted_emotion"] for each in rows] for rows in cut] == [
        ["anger", "fear", "fear"],  # whole, its first word, whole: a reply without words
        ["fear", "anger", "anger"],  # its first two words, whole, its first word
    ]
    assert one[1]["predicted_emotion"] == "anger"  # the rows themselves are as they were


def test_shares_and_test_are_those_of_the_cut_replies():
    """50 replies: the second model says it at the third word, where 30 replies of the first one have ended."""
    first = [reply(index, "fa" if index < 10 else "ff" if index < 30 else "fff") for index in range(50)]
    second = [reply(index, "ffa") for index in range(50)]
    found = compare({"first": first, "second": second})
    assert found.differences["second"]["emotion_accuracy"].value == pytest.approx((50 - 10) / 50)
    estimates = [found.estimates[model][CUT].value for model in ("first", "second")]
    assert estimates == pytest.approx([10 / 50, 20 / 50])
    difference = found.differences["second"][CUT]
    assert difference.value == pytest.approx(10 / 50)
    assert difference.p == pytest.approx(mcnemar([[0, 20], [10, 20]], exact=True).pvalue)
    assert difference.low < difference.value < difference.high


def test_the_intercept_is_that_of_statsmodels():
    random = np.random.default_rng(0)
    length, followed = np.tanh(random.normal(0.5, 1, 80)), random.integers(-1, 2, 80)
    weights = random.integers(0, 3, (4, 80))
    expected = [sm.WLS(followed, sm.add_constant(length), weights=each).fit().params[0] for each in weights]
    assert fit_intercepts(length, followed, weights) == pytest.approx(expected)


def test_the_controlled_difference_is_a_regression_over_prompts():
    models = [
        sorted(draw_replies(seed, 60, words) + draw_replies(seed + 9, 60, words, sample=1), key=lambda r: r["index"])
        for seed, words in ((0, 8), (1, 12))
    ]
    found = compare(dict(zip(("first", "second"), models, strict=True))).differences["second"][CONTROLLED]
    words, followed = (
        [np.mean([[read(each) for each in rows if each["index"] == n] for n in range(60)], axis=1) for rows in models]
        for read in (lambda r: len(r["emotion_at_words"]), lambda r: r["predicted_emotion"] == "anger")
    )
    more = words[1] - words[0]
    expected = sm.OLS(followed[1] - followed[0], sm.add_constant(np.tanh(more / more.std()))).fit()
    assert found.value == pytest.approx(expected.params[0])
    low, high = expected.conf_int()[0]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05)


def test_of_several_runs_each_is_compared_with_each():
    first = [draw_replies(seed, 40, 8, run=seed) for seed in range(2)]
    second = [draw_replies(seed + 10, 40, 9, run=seed) for seed in range(3)]
    together = {
        name: sorted((each for run in runs for each in run), key=lambda r: (r["index"], r["run"]))
        for name, runs in {"first": first, "second": second}.items()
    }
    found = compare(together).differences["second"]
    pairs = [[compare({"first": one, "second": other}).differences["second"] for other in second] for one in first]
    for name in (CUT, CONTROLLED):
        values = np.array([[pair[name].value for pair in row] for row in pairs])
        assert found[name].value == pytest.approx(values.mean())
        over_prompts = widen_estimate(found[name], 40, [values.mean(1), values.mean(0)], -1.0)
        # Already widened by the runs: the same variance once more makes it wider still.
        assert over_prompts.low < found[name].low < found[name].value


@pytest.mark.parametrize(("shorter", "is_known"), [(9, False), (10, True)])
def test_where_one_model_is_nearly_always_longer_nothing_is_extrapolated(shorter, is_known):
    first = [reply(index, "fff" if index % 2 else "ffa") for index in range(40)]
    second = [reply(index, "fa" if index < shorter else "ffff" + "a" * (index % 3)) for index in range(40)]
    found = compare({"first": first, "second": second})
    assert (CONTROLLED in found.differences["second"]) == (CONTROLLED in found.metrics) == is_known


def test_where_all_replies_are_longer_by_the_same_number_of_words_nothing_can_be_controlled_for():
    first = [reply(index, "ff") for index in range(40)]
    second = [reply(index, "ffa" if index % 2 else "fff") for index in range(40)]
    found = compare({"first": first, "second": second}).differences["second"]
    assert CONTROLLED not in found and found[CUT].value == 0
    same = compare({"first": first, "second": [reply(index, "fa" if index % 2 else "ff") for index in range(40)]})
    assert same.differences["second"][CONTROLLED].value == same.differences["second"]["emotion_accuracy"].value == 0.5


def test_a_model_alone_has_no_such_metric_and_beside_several_the_first_has_no_value():
    rows = {name: draw_replies(seed, 40, 8) for seed, name in enumerate(("a", "b", "c"))}
    alone, two, three = (compare(dict(list(rows.items())[:count])) for count in (1, 2, 3))
    assert not {CUT, CONTROLLED} & alone.metrics.keys()
    assert CUT in two.estimates["a"] and CUT not in three.estimates["a"]
    assert CUT not in two.estimates["gold"] and CUT not in two.gold_differences["b"]
    for model in ("b", "c"):
        assert CUT in three.estimates[model] and {CUT, CONTROLLED} <= three.differences[model].keys()
    assert three.differences["b"][CUT].value == two.differences["b"][CUT].value


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 0.15])
def test_in_a_simulation_of_longer_replies_both_find_the_difference_at_equal_length(effect):
    """The second model's replies are a third longer, which alone makes a difference of 7 points."""
    for value, coverage in measure(126, effect, simulations=150, seed=0).values():
        assert value == pytest.approx(effect, abs=0.02)
        assert 0.9 <= coverage <= 0.99
