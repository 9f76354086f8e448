"""Filters of preference pairs. Training applies them to its data, and building to every pair that it has sampled."""

from collections.abc import Callable, Sequence
from typing import Any

from response_generator.config.dataset_schema import FilterArguments
from response_generator.data.datasets import Pair
from response_generator.data.pair_text import find_target_emotion, get_prompt_text, get_reply_text
from response_generator.errors import InputError, raise_row_errors
from response_generator.labels import Labels
from response_generator.preferences.duplicates import find_exact_duplicates, find_near_duplicates
from response_generator.scoring.emotion_words import names_emotion, read_emotion_words
from response_generator.scoring.rules import ends_with_punctuation
from response_generator.scoring.words import list_words

FILTERED = "filtered"  # part of metric names
SCORE_FILTERS = {"min_margin", "min_chosen_score", "max_rejected_score"}
TARGET_FILTERS = {"chosen_has_target_emotion", "equal_naming"}
LABEL_FILTERS = {"chosen_has_target_emotion", "chosen_gibberish_labels", "min_chosen_gibberish_score"}


def has_target_emotion(pair: Pair, _: bool, labels: Labels) -> bool:
    return pair.chosen_labels.emotion == find_target_emotion(pair, labels)


def is_long_enough(pair: Pair, least: int, _: Labels) -> bool:
    return min(len(get_reply_text(pair.chosen)), len(get_reply_text(pair.rejected))) >= least


def is_short_enough(pair: Pair, most: int, _: Labels) -> bool:
    return max(len(get_reply_text(pair.chosen)), len(get_reply_text(pair.rejected))) <= most


def has_like_lengths(pair: Pair, most: int, _: Labels) -> bool:
    chosen, rejected = (len(list_words(get_reply_text(reply))) for reply in (pair.chosen, pair.rejected))
    return abs(chosen - rejected) <= most


def has_equal_naming(pair: Pair, _: bool, labels: Labels) -> bool:
    words, target = read_emotion_words(None, labels) or {}, find_target_emotion(pair, labels)
    chosen, rejected = (names_emotion(words, get_reply_text(reply), target) for reply in (pair.chosen, pair.rejected))
    return chosen == rejected


# By the key in the args, in the order of their application: whether a pair passes, given the value of the key and the
# run's labels.
PAIR_FILTERS: dict[str, Callable[[Pair, Any, Labels], bool]] = {
    "min_margin": lambda pair, least, _: pair.margin >= least,
    "min_chosen_score": lambda pair, least, _: pair.chosen_score >= least,
    "max_rejected_score": lambda pair, most, _: pair.rejected_score <= most,
    "min_characters": is_long_enough,
    "max_characters": is_short_enough,
    "max_length_difference": has_like_lengths,
    "equal_naming": has_equal_naming,
    "chosen_ends_with_punctuation": lambda pair, _, __: ends_with_punctuation(get_reply_text(pair.chosen)),
    "chosen_has_target_emotion": has_target_emotion,
    "chosen_gibberish_labels": lambda pair, allowed, _: pair.chosen_labels.gibberish_label in allowed,
    "min_chosen_gibberish_score": lambda pair, least, _: pair.chosen_labels.gibberish_score >= least,
}


def drop_duplicates(pairs: list[Pair], which: str) -> list[Pair]:
    duplicates = find_exact_duplicates(pairs) if which == "exact" else find_near_duplicates(pairs)
    return [pair for place, pair in enumerate(pairs) if place not in duplicates]


def limit_pairs_per_prompt(pairs: list[Pair], limit: int) -> list[Pair]:
    """Keeps the pairs of each prompt with the greatest margins, in their order; without margins the first ones."""
    by_prompt: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        by_prompt.setdefault(get_prompt_text(pair), []).append(place)
    kept = {
        place
        for places in by_prompt.values()
        for place in sorted(places, key=lambda place: -(pairs[place].margin or 0.0))[:limit]
    }
    return [pair for place, pair in enumerate(pairs) if place in kept]


# The filters that compare pairs with each other.
SET_FILTERS: dict[str, Callable[[list[Pair], Any], list[Pair]]] = {
    "drop_duplicates": drop_duplicates,
    "max_pairs_per_prompt": limit_pairs_per_prompt,
}


def list_active(filters: FilterArguments) -> dict[str, Any]:
    """`{key: value}` of the filters that are set, in the order of their application."""
    return {key: value for key, value in filters if value is not None and value is not False}


def needs_labels(filters: FilterArguments) -> bool:
    return bool(LABEL_FILTERS & set(list_active(filters)))


def find_failed_filter(pair: Pair, filters: FilterArguments, labels: Labels) -> str | None:
    """The first filter of single pairs that a pair does not pass; None if it passes all."""
    active = list_active(filters)
    failed = (key for key, passes in PAIR_FILTERS.items() if key in active and not passes(pair, active[key], labels))
    return next(failed, None)


def filter_pairs(
    place: str, pairs: Sequence[Pair], filters: FilterArguments, labels: Labels
) -> tuple[list[Pair], dict[str, int]]:
    """Applies the filters one after the other.

    Args:
        place: key of the data set, for messages.

    Returns:
        The pairs that pass, and how many pairs each filter has dropped.

    Raises:
        InputError: when a filter needs scores, labels or a target emotion that a pair does not have, or no pair passes.
    """
    check_columns(place, pairs, filters, labels)
    kept, dropped = apply_filters(pairs, list_active(filters), labels)
    if pairs and not kept:
        counts = ", ".join(f"{key} dropped {count}" for key, count in dropped.items())
        raise InputError(f"{place}.filters: no pair passes ({counts}); loosen a filter")
    return kept, dropped


def filter_set(pairs: Sequence[Pair], filters: FilterArguments, labels: Labels) -> tuple[list[Pair], dict[str, int]]:
    """The same with those filters alone that compare pairs with each other, for pairs that have passed the others; none
    need pass."""
    active = {key: value for key, value in list_active(filters).items() if key in SET_FILTERS}
    return apply_filters(pairs, active, labels)


def apply_filters(pairs: Sequence[Pair], active: dict[str, Any], labels: Labels) -> tuple[list[Pair], dict[str, int]]:
    kept, dropped = list(pairs), {}
    for key, value in active.items():
        before = len(kept)
        if key in SET_FILTERS:
            kept = SET_FILTERS[key](kept, value)
        else:
            kept = [pair for pair in kept if PAIR_FILTERS[key](pair, value, labels)]
        dropped[key] = before - len(kept)
    return kept, dropped


def check_columns(place: str, pairs: Sequence[Pair], filters: FilterArguments, labels: Labels) -> None:
    """Raises InputError for the pairs that lack what the filters need."""
    active = set(list_active(filters))
    errors = []
    for pair in pairs:
        needs = (
            (SCORE_FILTERS, pair.margin, "scores"),
            (LABEL_FILTERS, pair.chosen_labels, "labels of the classifiers"),
            (TARGET_FILTERS, find_target_emotion(pair, labels), "target emotion"),
        )
        for filters_with_need, found, noun in needs:
            if found is None and active & filters_with_need:
                key = min(active & filters_with_need)
                errors.append(f"{place}, row {pair.index}: has no {noun}, which filters.{key} needs; remove the filter")
                break
    raise_row_errors(place, errors)


def count_filtered(key: str, dropped: dict[str, int]) -> dict[str, int]:
    """The metrics `key/filtered` (total) and `key/filtered/FILTER`; none without filters."""
    name = f"{key}/{FILTERED}"
    return (
        {name: sum(dropped.values())} | {f"{name}/{each}": count for each, count in dropped.items()} if dropped else {}
    )
