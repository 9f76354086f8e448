"""Numbers that a row of predictions.jsonl gives, one a reply; a metric is a ratio of two sums of them."""

import re
from collections.abc import Callable

import numpy as np

from response_generator.data.pair_text import get_reply_text
from response_generator.evaluation.predictions_file import Prediction, has_gold_target

Column = Callable[[list[Prediction]], np.ndarray]  # rows of one model -> one number a row


def read_column(name: str) -> Column:
    return lambda rows: np.array([row[name] for row in rows])


def has_value(name: str, value: str) -> Column:
    return lambda rows: read_column(name)(rows) == value


def has_other_value(name: str, value: str) -> Column:
    return lambda rows: read_column(name)(rows) != value


def are_equal(name: str, other: str) -> Column:
    return lambda rows: read_column(name)(rows) == read_column(other)(rows)


def both(one: Column, other: Column) -> Column:
    """Their product: whether both are true, or the number of `one` where `other` is true, and else 0."""
    return lambda rows: one(rows) * other(rows)


def asks_for_gold_target(rows: list[Prediction]) -> np.ndarray:
    return np.array([has_gold_target(row) for row in rows])


new_tokens, gold_tokens = read_column("new_tokens"), read_column("gold_tokens")


def length_ratio(rows: list[Prediction]) -> np.ndarray:
    return new_tokens(rows) / gold_tokens(rows)


follows_target = are_equal("target_emotion", "predicted_emotion")
follows_target_by_second = are_equal("target_emotion", "second_emotion")
classifiers_agree = are_equal("predicted_emotion", "second_emotion")


def follows_target_unnamed(rows: list[Prediction]) -> np.ndarray:
    return follows_target(rows) & ~read_column("names_emotion")(rows)


def repeats_another_reply(rows: list[Prediction]) -> np.ndarray:
    """Whether exactly the same reply was also given to another prompt."""
    prompts: dict[str, set[int]] = {}
    for row in rows:
        prompts.setdefault(row["response"], set()).add(row["index"])
    return np.array([len(prompts[row["response"]]) > 1 for row in rows])


def copies_last_turn(rows: list[Prediction]) -> np.ndarray:
    """Whether a reply repeats the user's last turn, ignoring case and punctuation."""
    pairs = [(split_words(get_reply_text(row["history"][-1]["content"])), split_words(row["response"])) for row in rows]
    return np.array([bool(last) and reply == last for last, reply in pairs])


def split_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
