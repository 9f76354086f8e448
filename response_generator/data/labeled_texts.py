"""Texts with their labels, which a classifier learns from and is measured on. Imports no torch."""

from collections import Counter
from collections.abc import Iterable

from response_generator.data.datasets import BadRow, check_label, describe_json_type, get_emotion, parse_dialogue
from response_generator.errors import InputError
from response_generator.labels import Labels

Example = tuple[str, str]  # text, label
ExampleRow = tuple[Example, ...]  # of one row: the turns of a dialogue that have labels, or one text


def parse_turns(index: int, row: dict, labels: Labels) -> ExampleRow:
    """Text and label of every turn of a dialogue that has a label."""
    dialogue = parse_dialogue(index, row, labels)
    contents = [*(message["content"] for message in dialogue.history), dialogue.gold_content]
    return tuple((content["dialog"], content["emotion"]) for content in contents if get_emotion(content) is not None)


def parse_text(index: int, row: dict, labels: Labels) -> ExampleRow:
    """A row with `text` and `emotion`, as `normalize_text` returns it."""
    text, label = row["text"], row["emotion"]
    if not isinstance(text, str) or not text.strip():
        raise BadRow(f"text is {describe_json_type(text)}; needed: text")
    check_label(label, "emotion", labels)
    return ((text, label),)


def list_examples(rows: Iterable[ExampleRow]) -> list[Example]:
    return [example for row in rows for example in row]


def count_labels(examples: Iterable[Example], labels: Labels) -> dict[str, int]:
    """How many texts have each label, in the order of the labels."""
    found = Counter(label for _, label in examples)
    return {name: found[name] for name in labels.names}


def check_counts(key: str, counts: dict[str, int]) -> None:
    """Checks that there are texts with every label.

    Args:
        key: of the data.

    Raises:
        InputError: when no text has one of the labels.
    """
    missing = [name for name, count in counts.items() if not count]
    if missing:
        raise InputError(
            f"{key}: no text has the label {', '.join(map(repr, missing))}; texts of each label: "
            f"{describe_counts(counts)}; add texts with it, name other data, or take it out of labels"
        )


def describe_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
