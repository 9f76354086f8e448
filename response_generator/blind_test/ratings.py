"""The answers of all raters as arrays; the unit of all figures is the pair, whose raters are averaged."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from response_generator.blind_test.answers import RaterAnswers
from response_generator.blind_test.sheet import PREFERENCE, SIDES, Sheet, name_label_question


@dataclass(frozen=True)
class Ratings:
    """followed: share of a pair's raters in whose view the reply of each of the two models has the target label,
    (pairs, 2); nan where nobody has said. "Cannot tell" is not followed.

    favored: whether more raters prefer the second model (1), the first one (-1), or as many (0), (pairs,); nan where
    nobody has said. Raters who find both equal, or cannot tell, prefer neither.
    """

    followed: np.ndarray
    favored: np.ndarray

    @classmethod
    def of(cls, sheet: Sheet, raters: Sequence[RaterAnswers]) -> "Ratings":
        followed = np.full((len(raters), len(sheet.pairs), len(SIDES)), np.nan)
        votes = np.full((len(raters), len(sheet.pairs)), np.nan)
        for number, rater in enumerate(raters):
            for at, (pair, answer) in enumerate(zip(sheet.pairs, rater.answers, strict=True)):
                for model, side in list_sides(sheet, at):
                    label = answer.get(name_label_question(side))
                    if label is not None:
                        followed[number, at, model] = label == pair.place[1]
                    if answer.get(PREFERENCE) == side:
                        votes[number, at] = 1 if model else -1
                if PREFERENCE in answer and answer[PREFERENCE] not in SIDES:
                    votes[number, at] = 0
        return cls(average(followed), np.sign(average(votes)))


def list_sides(sheet: Sheet, at: int) -> list[tuple[int, str]]:
    """Of a pair, the number of the model (0 or 1) whose reply stands on each side."""
    return [
        (sheet.replies.models.index(model), side) for model, side in zip(sheet.pairs[at].models, SIDES, strict=True)
    ]


def average(values: np.ndarray) -> np.ndarray:
    """The mean over raters of what they have said; nan where nobody has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an empty mean, which is nan
        return np.nanmean(values, axis=0)
