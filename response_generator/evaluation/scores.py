"""What scoring adds to a row of predictions.jsonl: what the scorers and the rules say of its reply."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from response_generator.config.scoring_schema import EvaluationScoringArguments
from response_generator.config.source_list import list_sources
from response_generator.evaluation.predictions_file import EMOTION_LIST, Prediction, has_gold_target
from response_generator.labels import Labels
from response_generator.scoring.emotion_words import read_emotion_words
from response_generator.scoring.rules import ends_with_punctuation


@dataclass(frozen=True)
class Score:
    """A column that is made of what a scorer says of the reply.

    scorer: its key in the section scoring of the args. read: the value, from what the scorer found (see `run_scorers`),
    and the row. gold: the column with the same of the gold reply; None: there is none.
    """

    scorer: str
    kind: type
    read: Callable[[Any, Prediction], str | float | bool | list[str]]
    gold: str | None = None


SCORES = {
    "predicted_emotion": Score("emotion_model", str, lambda starts, row: starts[-1].label, "gold_emotion"),
    "emotion_score": Score("emotion_model", float, lambda starts, row: round(starts[-1].score, 6)),
    "target_probability": Score(
        "emotion_model", float, lambda starts, row: round(starts[-1].probabilities[row["target_emotion"]], 6)
    ),
    EMOTION_LIST: Score("emotion_model", list, lambda starts, row: [each.label for each in starts]),
    "gibberish_label": Score("gibberish_model", str, lambda labels, row: labels.label, "gold_gibberish_label"),
    "gibberish_score": Score("gibberish_model", float, lambda labels, row: round(labels.score, 6)),
    "second_emotion": Score("second_emotion_model", str, lambda labels, row: labels.label, "gold_second_emotion"),
    "names_emotion": Score("emotion_words", bool, lambda names, row: names, "gold_names_emotion"),
    "fit": Score("fit_model", float, lambda fit, row: round(fit.nats, 6), "gold_fit"),
    "fit_first": Score("fit_model", bool, lambda fit, row: fit.is_first, "gold_fit_first"),
}


def list_scorers(scoring: EvaluationScoringArguments, labels: Labels) -> list[str]:
    """The keys of what scores the replies of a run. The file of words that it names need not be there any more."""
    has_words = scoring.emotion_words is not None or read_emotion_words(None, labels) is not None
    return [source.key for source in list_sources(scoring)] + (["emotion_words"] if has_words else [])


def list_scored_fields(scorers: Collection[str]) -> dict[str, type]:
    """The columns that scoring with these scorers adds, and their types."""
    scores = select_scores(scorers)
    return (
        {name: score.kind for name, score in scores.items()}
        | {"ends_with_punctuation": bool}
        | {score.gold: score.kind for score in scores.values() if score.gold}
    )


def select_scores(scorers: Collection[str]) -> dict[str, Score]:
    return {name: score for name, score in SCORES.items() if score.scorer in scorers}


def read_scores(row: Prediction, of_reply: Mapping[str, Any], of_gold: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `list_scored_fields`.

    Args:
        of_reply, of_gold: by scorer, what it says of the reply and of the gold reply.
    """
    scores = select_scores(of_reply)
    return (
        {name: score.read(of_reply[score.scorer], row) for name, score in scores.items()}
        | {"ends_with_punctuation": ends_with_punctuation(row["response"])}
        | {score.gold: score.read(of_gold[score.scorer], row) for score in scores.values() if score.gold}
    )


def gold_as_predictions(rows: list[Prediction]) -> list[Prediction]:
    """The gold replies in the form of predictions, one a prompt: what the scorers say of people's own replies."""
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
