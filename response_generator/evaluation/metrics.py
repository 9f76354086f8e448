"""Figures of one model's replies; pure functions of the rows of predictions.jsonl."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

from response_generator.constants import EMOTIONS
from response_generator.evaluation.predictions_file import Prediction
from response_generator.scoring.rules import is_complete

NEUTRAL = EMOTIONS[0]
AMOUNTS = ("mean_new_tokens", "mean_reference_tokens", "length_ratio", "reference_perplexity", "target_probability")
DISTINCT = {1: "distinct_1", 2: "distinct_2"}
NOT_IN_PERCENT = {*AMOUNTS, *DISTINCT.values()} - {"target_probability"}

Counts = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class MetricTotals:
    """Totals over each prompt's replies; whatever is resampled, a figure is a quotient of totals, or F1 of counts.

    quotients: `{figure: (dividend, divisor)}`, each (prompts,). confusion: replies by target and predicted emotion,
    (prompts, 7, 7).
    """

    quotients: dict[str, Counts]
    confusion: np.ndarray

    @classmethod
    def of(cls, rows: list[Prediction], gibberish_labels: list[str]) -> "MetricTotals":
        """Rows of one model, in the order of prompts, as many to each."""
        prompts = len({row["index"] for row in rows})
        confusion = np.zeros((len(rows), len(EMOTIONS), len(EMOTIONS)))
        for place, row in enumerate(rows):
            confusion[place, EMOTIONS.index(row["target_emotion"]), EMOTIONS.index(row["predicted_emotion"])] = 1
        quotients = {
            name: tuple(np.asarray(side, float).reshape(prompts, -1).sum(1) for side in sides)
            for name, sides in quotients_of(rows, gibberish_labels).items()
        }
        return cls(quotients, confusion.reshape(prompts, -1, *confusion.shape[1:]).sum(1))

    @property
    def prompts(self) -> int:
        return len(self.confusion)

    def figures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every figure once for each row of `weights` (resamples, prompts): how often each prompt counts.

        nan where a figure has no value, as the recall of an emotion that no prompt asks for.
        """
        found = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, (dividend, divisor) in self.quotients.items():
                found[name] = (weights @ dividend) / (weights @ divisor)
            found["reference_perplexity"] = np.exp(found["reference_perplexity"])
            confusions = weights @ self.confusion.reshape(self.prompts, -1)
            found |= f1_figures(confusions.reshape(-1, len(EMOTIONS), len(EMOTIONS)))
        return found


def quotients_of(rows: list[Prediction], gibberish_labels: list[str]) -> dict[str, Counts]:
    """Dividend and divisor of every rate and mean, (rows,) each."""

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows])

    every = np.ones(len(rows))
    targets, predicted = column("target_emotion"), column("predicted_emotion")
    right, emotional = targets == predicted, targets != NEUTRAL
    quotients = {
        "emotion_accuracy": (right, every),
        "non_neutral_accuracy": (right & emotional, emotional),
        "target_probability": (column("target_probability"), every),
        "complete": (column("complete"), every),
        "incomplete": (~column("complete"), every),
        "stopped_by_limit": (column("stopped_by_limit"), every),
        "mean_new_tokens": (column("new_tokens"), every),
        "mean_reference_tokens": (column("reference_tokens"), every),
        "length_ratio": (column("new_tokens"), column("reference_tokens")),
        "exact_repeats": (repeats(rows), every),
        "copies_of_last_turn": (np.array([is_copy(row) for row in rows]), every),
        "reference_perplexity": (-column("reference_logp"), column("reference_tokens")),
    }
    for label in gibberish_labels:
        quotients[f"gibberish/{label}"] = (column("gibberish_label") == label, every)
    for emotion in EMOTIONS:
        quotients[f"emotion/{emotion}/precision"] = (right & (predicted == emotion), predicted == emotion)
        quotients[f"emotion/{emotion}/recall"] = (right & (targets == emotion), targets == emotion)
    return quotients


def f1_figures(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """F1 from counts of replies by target and predicted emotion, (resamples, 7, 7): as scikit-learn defines it.

    scikit-learn counts one sample at a time; ten thousand resamples would take it a minute.
    """
    right = np.diagonal(confusions, axis1=1, axis2=2)
    support, predicted = confusions.sum(2), confusions.sum(1)
    f1 = 2 * right / (support + predicted)
    emotional = confusions.copy()
    emotional[:, 0] = 0  # rows with a neutral target are left out, whatever was predicted
    asked = emotional.sum(2)
    f1_emotional = np.where(asked > 0, 2 * right / (asked + emotional.sum(1)), np.nan)
    others = slice(1, None)
    micro = 2 * right[:, others].sum(1) / (support[:, others].sum(1) + predicted[:, others].sum(1))
    return {
        "emotion_f1_weighted": (np.nan_to_num(f1) * support).sum(1) / support.sum(1),
        "emotion_f1_macro": np.nan_to_num(f1).sum(1) / np.isfinite(f1).sum(1),
        "emotion_f1_micro_without_neutral": micro,
        "non_neutral_f1_weighted": (np.nan_to_num(f1_emotional) * asked).sum(1) / asked.sum(1),
        "non_neutral_f1_macro": np.nan_to_num(f1_emotional).sum(1) / np.isfinite(f1_emotional).sum(1),
        **{f"emotion/{emotion}/f1": f1[:, number] for number, emotion in enumerate(EMOTIONS)},
    }


def classification(rows: list[Prediction]) -> dict[str, float]:
    """The figures of emotions, by scikit-learn. F1 averages over the emotions that occur as target or prediction.

    `non_neutral_*` are over the replies whose target is an emotion, averaged over these targets.
    `emotion_f1_micro_without_neutral` is over all replies and the six emotions, as in the literature on DailyDialog.
    """
    targets, predicted = ([row[name] for row in rows] for name in ("target_emotion", "predicted_emotion"))
    figures = {
        "emotion_accuracy": accuracy_score(targets, predicted),
        "emotion_f1_weighted": f1_score(targets, predicted, average="weighted", zero_division=0),
        "emotion_f1_macro": f1_score(targets, predicted, average="macro", zero_division=0),
    }
    report = classification_report(targets, predicted, labels=EMOTIONS, output_dict=True, zero_division=0)
    for emotion in EMOTIONS:
        for name in ("precision", "recall", "f1-score", "support"):
            figures[f"emotion/{emotion}/{name.removesuffix('-score')}"] = report[emotion][name]
    if any(name != NEUTRAL for name in targets + predicted):
        micro = f1_score(targets, predicted, labels=EMOTIONS[1:], average="micro", zero_division=0)
        figures["emotion_f1_micro_without_neutral"] = micro
    emotional = [(target, label) for target, label in zip(targets, predicted, strict=True) if target != NEUTRAL]
    if emotional:
        asked, given = zip(*emotional, strict=True)
        figures["non_neutral_accuracy"] = accuracy_score(asked, given)
        for average in ("weighted", "macro"):
            figures[f"non_neutral_f1_{average}"] = f1_score(
                asked, given, labels=sorted(set(asked)), average=average, zero_division=0
            )
    return {name: float(value) for name, value in figures.items()}


def confusions(rows: list[Prediction]) -> np.ndarray:
    """Replies by target (rows) and predicted emotion (columns), (7, 7), in the order of EMOTIONS."""
    targets, predicted = ([row[name] for row in rows] for name in ("target_emotion", "predicted_emotion"))
    return confusion_matrix(targets, predicted, labels=EMOTIONS)


def repeats(rows: list[Prediction]) -> np.ndarray:
    """Whether a reply was also given, letter by letter, to another prompt."""
    prompts_of: dict[str, set[int]] = {}
    for row in rows:
        prompts_of.setdefault(row["response"], set()).add(row["index"])
    return np.array([len(prompts_of[row["response"]]) > 1 for row in rows])


def is_copy(row: Prediction) -> bool:
    """Whether a reply is the user's last turn over again, capitals and punctuation aside."""
    last = row["history"][-1]["content"]["dialog"]
    return bool(words(last)) and words(row["response"]) == words(last)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class Distinct:
    """distinct-n (Li et al. 2016): different n-grams over all n-grams, of all replies and without each prompt's."""

    whole: float
    leave_one_out: np.ndarray

    @classmethod
    def of(cls, rows: list[Prediction], n: int) -> "Distinct":
        """Words and marks of punctuation are the tokens; no n-gram reaches from one reply into the next."""
        of_prompt: dict[int, Counter] = {}
        for row in rows:
            tokens = re.findall(r"\w+|[^\w\s]", row["response"].lower())
            grams = pairwise(tokens) if n == 2 else tokens
            of_prompt.setdefault(row["index"], Counter()).update(grams)
        everything: Counter = Counter()
        for of in of_prompt.values():
            everything.update(of)
        own = np.array([sum(everything[gram] == count for gram, count in of.items()) for of in of_prompt.values()])
        totals = np.array([of.total() for of in of_prompt.values()])
        rest = totals.sum() - totals
        # A prompt that alone has words leaves nothing to count without it.
        return cls(len(everything) / max(1, totals.sum()), ((len(everything) - own) / np.maximum(rest, 1))[rest > 0])


def gold_as_predictions(rows: list[Prediction]) -> list[Prediction]:
    """The reference replies in the place of the model's: what the judges say of people, the ceiling of any model."""
    first = {row["index"]: row for row in reversed(rows)}
    return [
        row
        | {
            "response": row["reference"],
            "predicted_emotion": row["reference_emotion"],
            "gibberish_label": row["reference_gibberish"],
            "complete": is_complete(row["reference"]),
            "new_tokens": row["reference_tokens"],
        }
        for _, row in sorted(first.items())
    ]
