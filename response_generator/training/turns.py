"""The turns of dialogues with their labels, which a classifier learns from. Imports no torch."""

from collections import Counter
from collections.abc import Iterable

from response_generator.data.datasets import Dialogue, get_emotion
from response_generator.errors import InputError
from response_generator.labels import Labels

Turn = tuple[str, str]  # text, label


def list_turns(dialogues: Iterable[Dialogue]) -> list[Turn]:
    """Text and label of every turn that has a label."""
    turns = []
    for dialogue in dialogues:
        contents = [*(message["content"] for message in dialogue.history), dialogue.gold_content]
        turns += [(content["dialog"], content["emotion"]) for content in contents if get_emotion(content) is not None]
    return turns


def count_labels(turns: Iterable[Turn], labels: Labels) -> dict[str, int]:
    """How many turns have each label, in the order of the labels.

    Raises:
        InputError: when a label has none, so that a classifier could not learn it.
    """
    found = Counter(label for _, label in turns)
    counts = {name: found[name] for name in labels.names}
    missing = [name for name, count in counts.items() if not count]
    if missing:
        raise InputError(
            f"labels: no turn of dataset and extra_dataset has {', '.join(map(repr, missing))}; turns of each label: "
            f"{describe_counts(counts)}; add dialogues with it, or take it out of labels"
        )
    return counts


def describe_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
