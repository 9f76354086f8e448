"""What scores the replies of an evaluation: classifiers, lists of words and a language model, by their keys in the
section scoring of the args."""

from collections.abc import Iterable, Sequence
from typing import Any

from response_generator.config.schema import EvaluationScoringArguments
from response_generator.evaluation.predictions_file import Prediction
from response_generator.labels import Labels
from response_generator.scoring import fit
from response_generator.scoring.classifiers import CLASSIFIERS, check_classifiers, list_classifiers
from response_generator.scoring.emotion_words import names_emotion, read_emotion_words

WORDS, FIT = "emotion_words", "fit_model"


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


def list_scorers(scoring: EvaluationScoringArguments, labels: Labels) -> list[str]:
    """The keys of what scores the replies of a run. Its file of words need not exist anymore."""
    found = [source.key for source in list_classifiers(scoring)]
    found += [WORDS] if scoring.emotion_words is not None or read_emotion_words(None, labels) else []
    return found + ([FIT] if scoring.fit_model is not None else [])


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
    if key == WORDS:
        words = read_emotion_words(scoring.emotion_words, labels)
        return [names_emotion(words, row["response"], row["target_emotion"]) for row in rows]
    if key == FIT:
        histories = {row["index"]: row["history"] for row in rows}
        replies = [fit.Reply(row["index"], row.get("target_emotion"), row["response"]) for row in rows]
        return fit.measure_fit(scoring, seed, histories, replies)
    texts = list(dict.fromkeys(row["response"] for row in rows))
    of_text = dict(zip(texts, CLASSIFIERS[key](scoring).classify(texts, key.removesuffix("_model")), strict=True))
    return [of_text[row["response"]] for row in rows]
