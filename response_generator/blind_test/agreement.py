"""How often raters give the same answer, and how often the emotion classifier gives that of a rater."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.metrics import cohen_kappa_score

from response_generator.blind_test.answers import RaterAnswers
from response_generator.blind_test.ratings import list_sides
from response_generator.blind_test.sheet import PREFERENCE, SIDES, Sheet, name_label_question

LABEL_QUESTIONS = tuple(map(name_label_question, SIDES))


@dataclass(frozen=True)
class Agreement:
    """same: share of equal answers. kappa: Cohen's (1960), None where it is not defined because all answers are the
    same. answers: how many were compared. "Cannot tell" is an answer like the others."""

    same: float
    kappa: float | None
    answers: int


def compare_answers(first: Sequence[str], second: Sequence[str]) -> Agreement | None:
    """None where there is nothing to compare."""
    if not first:
        return None
    same = float(np.mean(np.array(first) == np.array(second)))
    options = sorted({*first, *second})
    kappa = float(cohen_kappa_score(first, second, labels=options)) if len(options) > 1 else None
    return Agreement(same, kappa, len(first))


def compare_raters(raters: Sequence[RaterAnswers], questions: Sequence[str]) -> Agreement | None:
    """The mean over all pairs of raters (Light 1971), each of the answers that both have given."""
    found = []
    for first, second in combinations(raters, 2):
        both = [
            (one[question], other[question])
            for one, other in zip(first.answers, second.answers, strict=True)
            for question in questions
            if question in one and question in other
        ]
        found.append(compare_answers([one for one, _ in both], [other for _, other in both]))
    found = [each for each in found if each]
    if not found:
        return None
    kappas = [each.kappa for each in found if each.kappa is not None]
    same = float(np.mean([each.same for each in found]))
    return Agreement(same, float(np.mean(kappas)) if kappas else None, sum(each.answers for each in found))


def compare_with_classifier(sheet: Sheet, rater: RaterAnswers) -> Agreement | None:
    """A rater's labels with those of the classifier; None where the rater has named none, or there is no classifier."""
    given, predicted = [], []
    for at, (pair, answer) in enumerate(zip(sheet.pairs, rater.answers, strict=True)):
        for model, side in list_sides(sheet, at):
            label = answer.get(name_label_question(side))
            of_classifier = sheet.replies.rows[sheet.replies.models[model]][pair.place].get("predicted_emotion")
            if label is not None and of_classifier is not None:
                given.append(label)
                predicted.append(of_classifier)
    return compare_answers(given, predicted)


def compare_all(sheet: Sheet, raters: Sequence[RaterAnswers]) -> tuple[dict[str, Agreement], dict[str, Agreement]]:
    """The agreement of the raters by what they were asked, and of each rater with the classifier."""
    among = {sheet.replies.labels.noun: compare_raters(raters, LABEL_QUESTIONS)} if sheet.replies.labels else {}
    among |= {PREFERENCE: compare_raters(raters, [PREFERENCE])}
    with_classifier = {rater.rater: compare_with_classifier(sheet, rater) for rater in raters}
    return drop_missing(among), drop_missing(with_classifier)


def drop_missing(found: dict[str, Agreement | None]) -> dict[str, Agreement]:
    return {name: each for name, each in found.items() if each}
