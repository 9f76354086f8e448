"""What scoring adds to a row of predictions.jsonl: what the classifiers and the rules say of its reply."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from response_generator.evaluation.predictions_file import EMOTION_LIST, Prediction, has_gold_target
from response_generator.scoring.rules import ends_with_punctuation, list_starts


@dataclass(frozen=True)
class Score:
    """A column that is made of a classifier's label probabilities of the reply.

    classifier: its key in the section scoring of the args. read: the value, from the `LabelProbs` of a text, and its
    row. gold: the column with the same of the gold reply; None: there is none.
    """

    classifier: str
    kind: type
    read: Callable[[Any, Prediction], str | float]
    gold: str | None = None


SCORES = {
    "predicted_emotion": Score("emotion_model", str, lambda labels, row: labels.label, "gold_emotion"),
    "emotion_score": Score("emotion_model", float, lambda labels, row: round(labels.score, 6)),
    "target_probability": Score(
        "emotion_model", float, lambda labels, row: round(labels.probabilities[row["target_emotion"]], 6)
    ),
    "gibberish_label": Score("gibberish_model", str, lambda labels, row: labels.label, "gold_gibberish_label"),
    "gibberish_score": Score("gibberish_model", float, lambda labels, row: round(labels.score, 6)),
}


def list_scored_fields(classifiers: Collection[str]) -> dict[str, type]:
    """The columns that scoring with these classifiers adds, and their types."""
    scores = select_scores(classifiers)
    return (
        {name: score.kind for name, score in scores.items()}
        | ({EMOTION_LIST: list} if "emotion_model" in classifiers else {})
        | {"ends_with_punctuation": bool}
        | {score.gold: score.kind for score in scores.values() if score.gold}
    )


def select_scores(classifiers: Collection[str]) -> dict[str, Score]:
    return {name: score for name, score in SCORES.items() if score.classifier in classifiers}


def list_classified_texts(rows: list[Prediction], classifier: str) -> list[str]:
    """The texts whose labels `read_scores` needs from a classifier."""
    texts = [row[name] for row in rows for name in ("response", "gold_response")]
    if classifier == "emotion_model":
        texts += [start for row in rows for start in list_starts(row["response"])]
    return texts


def read_scores(row: Prediction, labels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The values of `list_scored_fields`.

    Args:
        labels: by classifier, the `LabelProbs` of each of `list_classified_texts`.
    """
    scores, reply, gold = select_scores(labels), row["response"], row["gold_response"]
    found = {name: score.read(labels[score.classifier][reply], row) for name, score in scores.items()}
    if "emotion_model" in labels:
        found[EMOTION_LIST] = [labels["emotion_model"][start].label for start in list_starts(reply)]
    return (
        found
        | {"ends_with_punctuation": ends_with_punctuation(reply)}
        | {score.gold: score.read(labels[score.classifier][gold], row) for score in scores.values() if score.gold}
    )


def gold_as_predictions(rows: list[Prediction]) -> list[Prediction]:
    """The gold replies in the form of predictions, one a prompt: what the classifiers say of people's own replies."""
    first = {row["index"]: row for row in reversed(rows) if has_gold_target(row)}
    return [
        row
        | {
            "response": row["gold_response"],
            "new_tokens": row["gold_tokens"],
            "ends_with_punctuation": ends_with_punctuation(row["gold_response"]),
        }
        | {name: row[score.gold] for name, score in SCORES.items() if score.gold in row}
        for _, row in sorted(first.items())
    ]
