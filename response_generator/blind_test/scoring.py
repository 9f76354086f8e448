"""All figures of a blind test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from response_generator.blind_test.agreement import Agreement, compare_all
from response_generator.blind_test.answers import RaterAnswers
from response_generator.blind_test.followed import Followed, measure_followed
from response_generator.blind_test.ratings import Ratings
from response_generator.blind_test.sheet import CANNOT_TELL, EQUAL, PREFERENCE, Sheet
from response_generator.evaluation.statistics import intervals
from response_generator.evaluation.statistics.estimates import Estimate


@dataclass(frozen=True)
class Preference:
    """Whose reply fits better.

    wins, losses: pairs in which more raters prefer the second model, or the first one. ties: as many. share: of wins
    among wins and losses, with the p-value of the exact sign test; None where there are only ties. equally_good,
    cannot_tell: answers of all raters.
    """

    wins: int
    losses: int
    ties: int
    share: Estimate | None
    equally_good: int
    cannot_tell: int


@dataclass(frozen=True)
class Scores:
    """The results.

    noun: what the labels are called. pairs: of the sheet. prompts: to which the models have replied differently, and
    from which the pairs were drawn. identical: the other prompts. complete: by rater, the pairs with all answers.
    followed: of each model and of the difference; empty without labels. preference: None where nobody has said.
    agreement: of the raters, by what they were asked. with_classifier: by rater.
    """

    sheet: str
    models: list[str]
    noun: str
    pairs: int
    prompts: int
    identical: int
    complete: dict[str, int]
    followed: dict[str, Followed]
    preference: Preference | None
    agreement: dict[str, Agreement]
    with_classifier: dict[str, Agreement]


def score(sheet: Sheet, raters: Sequence[RaterAnswers]) -> Scores:
    ratings = Ratings.of(sheet, raters)
    agreement, with_classifier = compare_all(sheet, raters)
    prompts = len(sheet.replies.list_differing_prompts())
    return Scores(
        sheet.id,
        sheet.replies.models,
        sheet.replies.labels.noun,
        len(sheet.pairs),
        prompts,
        sheet.replies.count_prompts() - prompts,
        {rater.rater: rater.count_complete(sheet.questions) for rater in raters},
        measure_followed(sheet, ratings.followed) if sheet.replies.labels else {},
        measure_preference(ratings.favored, raters, sheet.seed),
        agreement,
        with_classifier,
    )


def measure_preference(favored: np.ndarray, raters: Sequence[RaterAnswers], seed: int) -> Preference | None:
    """favored: that of `Ratings`, (pairs,)."""
    counted = favored[np.isfinite(favored)]
    if not len(counted):
        return None
    wins, losses = int((counted > 0).sum()), int((counted < 0).sum())
    share = None
    if wins + losses:
        interval = intervals.clopper_pearson_interval(wins, wins + losses)
        share = Estimate.of(wins / (wins + losses), interval, intervals.paired_p_value(counted, seed))
    given = [answer.get(PREFERENCE) for rater in raters for answer in rater.answers]
    return Preference(wins, losses, len(counted) - wins - losses, share, given.count(EQUAL), given.count(CANNOT_TELL))
