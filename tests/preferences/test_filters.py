"""No filter lets through what it forbids, and each says what it dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import make_pair
from tiny_models import EMOTION_LABELS

from response_generator.config.dataset_schema import FilterArguments
from response_generator.data.datasets import ReplyLabels
from response_generator.errors import InputError
from response_generator.preferences.filters import count_filtered, filter_pairs, find_failed_filter

scores = st.floats(-20, 20)
texts = st.sampled_from(["Great !", "Oh no", "I am so glad to hear it .", "well ...", "Why would you say that ?", "ok"])
labels = st.builds(
    ReplyLabels, st.sampled_from(["happiness", "anger"]), st.sampled_from(["clean", "noise"]), st.floats(0, 1)
)
pair_lists = st.lists(
    st.builds(
        lambda index, chosen, rejected, chosen_score, rejected_score, found: make_pair(
            index, chosen, rejected, chosen_score=chosen_score, rejected_score=rejected_score, chosen_labels=found
        ),
        st.integers(0, 3),
        texts,
        texts,
        scores,
        scores,
        labels,
    ),
    min_size=1,
    max_size=12,
)
filter_settings = st.builds(
    FilterArguments,
    min_margin=st.none() | scores,
    min_chosen_score=st.none() | scores,
    max_rejected_score=st.none() | scores,
    min_characters=st.none() | st.integers(1, 10),
    max_characters=st.none() | st.integers(5, 30),
    max_length_difference=st.none() | st.integers(0, 4),
    chosen_ends_with_punctuation=st.booleans(),
    chosen_has_target_emotion=st.booleans(),
    chosen_gibberish_labels=st.none() | st.just(["clean"]),
    min_chosen_gibberish_score=st.none() | st.floats(0, 1),
    drop_duplicates=st.sampled_from([None, "exact", "near"]),
    max_pairs_per_prompt=st.none() | st.integers(1, 2),
)


@given(pair_lists, filter_settings)
def test_no_filter_lets_through_what_it_forbids(pairs, filters):
    try:
        kept, dropped = filter_pairs("dataset", pairs, filters, EMOTION_LABELS)
    except InputError as error:
        assert "no pair passes" in str(error)
        return
    for pair in kept:
        chosen, rejected = pair.chosen["dialog"], pair.rejected["dialog"]
        if filters.min_margin is not None:
            assert pair.chosen_score - pair.rejected_score >= filters.min_margin
        if filters.min_chosen_score is not None:
            assert pair.chosen_score >= filters.min_chosen_score
        if filters.max_rejected_score is not None:
            assert pair.rejected_score <= filters.max_rejected_score
        if filters.min_characters is not None:
            assert len(chosen) >= filters.min_characters and len(rejected) >= filters.min_characters
        if filters.max_characters is not None:
            assert len(chosen) <= filters.max_characters and len(rejected) <= filters.max_characters
        if filters.max_length_difference is not None:
            longer, shorter = sorted((len(chosen.split(" ")), len(rejected.split(" "))), reverse=True)
            assert longer <= shorter + filters.max_length_difference
        if filters.chosen_ends_with_punctuation:
            assert chosen[-1] in ".!?"
        if filters.chosen_has_target_emotion:
            assert pair.chosen_labels.emotion == "happiness"
        if filters.chosen_gibberish_labels is not None:
            assert pair.chosen_labels.gibberish_label == "clean"
        if filters.min_chosen_gibberish_score is not None:
            assert pair.chosen_labels.gibberish_score >= filters.min_chosen_gibberish_score
    if filters.drop_duplicates:
        rows = [(pair.index, pair.chosen["dialog"], pair.rejected["dialog"]) for pair in kept]
        assert len(set(rows)) == len(rows)
    if filters.max_pairs_per_prompt:
        assert max([pair.index for pair in kept].count(index) for index in range(4)) <= filters.max_pairs_per_prompt
    assert len(pairs) - len(kept) == sum(dropped.values())


def test_each_filter_reports_what_it_dropped_in_order():
    pairs = [
        make_pair(0),
        make_pair(0),
        make_pair(1, rejected_score=9.0),
        make_pair(2, "It is", chosen_score=4.0),
        make_pair(3, "It is"),
    ]
    filters = FilterArguments(
        drop_duplicates="exact", chosen_ends_with_punctuation=True, min_chosen_score=8.0, min_margin=4.0
    )
    kept, dropped = filter_pairs("dataset", pairs, filters, EMOTION_LABELS)
    assert [pair.index for pair in kept] == [0]
    # In the order of the schema, whatever the order in the args; row 2 would fail two filters.
    assert list(dropped.items()) == [
        ("min_margin", 2),
        ("min_chosen_score", 0),
        ("chosen_ends_with_punctuation", 1),
        ("drop_duplicates", 1),
    ]
    assert count_filtered("dataset", dropped) == {
        "dataset/filtered": 4,
        "dataset/filtered/min_margin": 2,
        "dataset/filtered/min_chosen_score": 0,
        "dataset/filtered/chosen_ends_with_punctuation": 1,
        "dataset/filtered/drop_duplicates": 1,
    }
    assert count_filtered("dataset", {}) == {}


def test_bounds_are_allowed():
    filters = FilterArguments(
        min_margin=8.0, min_chosen_score=10.0, max_rejected_score=2.0, min_characters=7, max_characters=20
    )
    assert find_failed_filter(make_pair(), filters, EMOTION_LABELS) is None  # margin 8, 7 and 20 characters
    assert find_failed_filter(make_pair(rejected_score=2.001), filters, EMOTION_LABELS) == "min_margin"


def test_the_pairs_with_the_greatest_margins_of_a_prompt_are_kept():
    pairs = [make_pair(0, rejected_score=score) for score in (5.0, 1.0, 3.0)] + [make_pair(1)]
    kept, _ = filter_pairs("dataset", pairs, FilterArguments(max_pairs_per_prompt=2), EMOTION_LABELS)
    assert [(pair.index, pair.rejected_score) for pair in kept] == [(0, 1.0), (0, 3.0), (1, 2.0)]


@pytest.mark.parametrize(
    ("pair", "filters", "message"),
    [
        (make_pair(chosen_score=None), {"min_margin": 1.0}, "row 0: has no scores, which filters.min_margin needs"),
        (make_pair(chosen_labels=None), {"chosen_gibberish_labels": ["clean"]}, "has no labels of the classifiers"),
        (make_pair(prompt="Hello"), {"chosen_has_target_emotion": True}, "a target emotion"),
        (make_pair(), {"min_margin": 9.0}, r"dataset.filters: no pair passes \(min_margin dropped 1\)"),
    ],
)
def test_what_a_filter_needs_is_said(pair, filters, message):
    with pytest.raises(InputError, match=message):
        filter_pairs("dataset", [pair], FilterArguments(**filters), EMOTION_LABELS)
