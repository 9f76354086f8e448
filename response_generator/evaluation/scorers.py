"""What scores the replies of an evaluation: classifiers, lists of words and a language model, by their keys in the
section scoring of the args."""

from collections.abc import Iterable, Sequence
from typing import Any

from response_generator.config.schema import EvaluationScoringArguments
from response_generator.evaluation.predictions_file import Prediction
from response_generator.evaluation.scores import list_scorers
from response_generator.labels import Labels
from response_generator.scoring import fit
from response_generator.scoring.classifiers import CLASSIFIERS, check_classifiers
from response_generator.scoring.emotion_words import names_emotion, read_emotion_words


def check_scorers(
    scoring: EvaluationScoringArguments, labels: Labels, dialogues: Iterable[tuple[int, list[dict[str, Any]]]]
) -> None:
    """Checks everything that scoring needs before replies are generated. The file of words has been checked before.

    Args:
        dialogues: index and history of each.

    Raises:
        InputError: with what is wrong.
    """
    check_classifiers(scoring, labels)
    if scoring.fit_model is not None:
        fit.check_fit_model(scoring, dict(dialogues))


def run_scorers(
    rows: Sequence[Prediction], scoring: EvaluationScoringArguments, labels: Labels, seed: int
) -> list[dict[str, Any]]:
    """What each scorer says of each row's reply, by its key: `LabelProbs`, whether it names the emotion, or its `Fit`.

    Args:
        seed: draws the other dialogues for the fit.
    """
    found: list[dict[str, Any]] = [{} for _ in rows]
    for key in list_scorers(scoring, labels):
        for of_row, each in zip(found, run_scorer(key, rows, scoring, labels, seed), strict=True):
            of_row[key] = each
    return found


def run_scorer(
    key: str, rows: Sequence[Prediction], scoring: EvaluationScoringArguments, labels: Labels, seed: int
) -> list[Any]:
    if key == "emotion_words":
        words = read_emotion_words(scoring.emotion_words, labels)
        return [names_emotion(words, row["response"], row["target_emotion"]) for row in rows]
    if key == "fit_model":
        histories = {row["index"]: row["history"] for row in rows}
        replies = [fit.Reply(row["index"], row.get("target_emotion"), row["response"]) for row in rows]
        return fit.measure_fit(scoring, seed, histories, replies)
    texts = list(dict.fromkeys(row["response"] for row in rows))
    of_text = dict(zip(texts, CLASSIFIERS[key](scoring).classify(texts, key.removesuffix("_model")), strict=True))
    return [of_text[row["response"]] for row in rows]
