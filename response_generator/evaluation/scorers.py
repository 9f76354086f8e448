"""What scores the replies of an evaluation: classifiers, lists of words and a language model, by their keys in the
section scoring of the args."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from response_generator.config.scoring_schema import EvaluationScoringArguments
from response_generator.evaluation.predictions_file import Prediction
from response_generator.evaluation.scores import list_scorers
from response_generator.labels import Labels
from response_generator.scoring import fit
from response_generator.scoring.classifiers import CLASSIFIERS, check_classifiers
from response_generator.scoring.emotion_words import names_emotion, read_emotion_words
from response_generator.scoring.words import list_starts


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
    rows: Sequence[Prediction],
    gold: Sequence[Prediction],
    scoring: EvaluationScoringArguments,
    labels: Labels,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What each scorer says of each row's reply, and of each gold reply, by the scorer's key.

    That is whether the reply names the emotion, its `Fit`, or its `LabelProbs`. The emotion classifier gives a list of
    these: of the first word, of the first two, …, of the whole reply; of a gold reply, of the whole reply alone.

    Args:
        gold: rows with the gold reply as their reply.
        seed: draws the other dialogues for the fit.
    """
    found: list[dict[str, Any]] = [{} for _ in (*rows, *gold)]
    for key in list_scorers(scoring, labels):
        for of_row, each in zip(found, run_scorer(key, rows, gold, scoring, labels, seed), strict=True):
            of_row[key] = each
    return found[: len(rows)], found[len(rows) :]


def run_scorer(
    key: str,
    rows: Sequence[Prediction],
    gold: Sequence[Prediction],
    scoring: EvaluationScoringArguments,
    labels: Labels,
    seed: int,
) -> list[Any]:
    everything = [*rows, *gold]
    if key == "emotion_words":
        words = read_emotion_words(scoring.emotion_words, labels)
        return [names_emotion(words, row["response"], row["target_emotion"]) for row in everything]
    if key == "fit_model":
        histories = {row["index"]: row["history"] for row in everything}
        replies = [fit.Reply(row["index"], row.get("target_emotion"), row["response"]) for row in everything]
        asked = {(reply.index, reply.target) for reply in replies}
        return fit.FitMeter(scoring, seed, histories, asked).measure(replies, "fit")
    texts = [[row["response"]] for row in everything]
    if key == "emotion_model":
        texts[: len(rows)] = [list_starts(row["response"]) for row in rows]
    of_text = CLASSIFIERS[key](scoring).classify_different(chain.from_iterable(texts), key.removesuffix("_model"))
    labels_of_texts = [[of_text[text] for text in of_row] for of_row in texts]
    return labels_of_texts if key == "emotion_model" else [of_row[0] for of_row in labels_of_texts]
