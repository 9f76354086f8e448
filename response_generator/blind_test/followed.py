"""How often replies have their target label: in the view of raters, of the classifier, and corrected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from response_generator.blind_test.compared_replies import Place
from response_generator.blind_test.sheet import Sheet
from response_generator.evaluation.columns import follows_target
from response_generator.evaluation.statistics import intervals
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.evaluation.statistics.prediction_powered import estimate_prediction_powered, weigh_strata
from response_generator.evaluation.statistics.training_seeds import clip_bounds

DIFFERENCE = "difference"
Weights = dict[int, int]  # of the models in a figure, by number: {1: 1}, or {0: -1, 1: 1} for the difference


@dataclass(frozen=True)
class Followed:
    """Share of replies with the target label, of a model, or the second model's minus the first one's.

    rated: how many replies, or pairs. raters: in their view. classifier_rated, classifier_all: in that of the emotion
    classifier, of the same replies and of all prompts with different replies, each target as frequent as among the
    rated ones. corrected: what raters would say of all these prompts. The last three are None without a classifier.
    """

    rated: int
    raters: Estimate
    classifier_rated: float | None = None
    classifier_all: float | None = None
    corrected: Estimate | None = None


@dataclass(frozen=True)
class Classified:
    """Whether the replies have the target label in the view of the classifier.

    of_sheet: the replies of the sheet, (pairs, 2). of_prompts: of each prompt the mean over the samples that differ,
    those of the sheet first, (prompts, 2). strata: number of the target of each prompt, (prompts,).
    """

    of_sheet: np.ndarray
    of_prompts: np.ndarray
    strata: np.ndarray

    @classmethod
    def of(cls, sheet: Sheet) -> "Classified | None":
        """None without an emotion classifier."""
        rows = list(sheet.replies.rows.values())
        if "predicted_emotion" not in next(iter(rows[0].values())):
            return None

        def read(places: Sequence[Place]) -> np.ndarray:
            return np.array([follows_target([each[place] for place in places]) for each in rows], float)

        prompts = sheet.replies.list_differing_prompts()
        shown = [pair.place for pair in sheet.pairs]
        order = dict.fromkeys([*(place[:2] for place in shown), *prompts])
        means = np.array([read(prompts[prompt]).mean(axis=1) for prompt in order])
        return cls(read(shown).T, means, np.unique([target for _, target in order], return_inverse=True)[1])

    def compare(self, weights: Weights, is_rated: np.ndarray, rated: np.ndarray) -> tuple[float, float, Estimate]:
        """The classifier's share of the rated replies and of all prompts, and the corrected one.

        Args:
            is_rated: of each pair of the sheet, (pairs,). rated: what raters say, (rated,).
        """
        of_rated, of_prompts = combine(self.of_sheet, weights)[is_rated], combine(self.of_prompts, weights)
        first = np.flatnonzero(is_rated)
        order = np.concatenate([first, np.setdiff1d(np.arange(len(of_prompts)), first)])
        of_prompts, strata = of_prompts[order], self.strata[order]
        least = min(0, *weights.values())
        found = clip_bounds(estimate_prediction_powered(of_prompts, of_rated, rated, strata), least)
        corrected = replace(found, value=float(np.clip(found.value, least, 1)))
        return float(of_rated.mean()), float(weigh_strata(strata, len(rated)) @ of_prompts), corrected


def combine(values: np.ndarray, weights: Weights) -> np.ndarray:
    """The weighted sum of the models' columns, (pairs,); a column that is not in `weights` may be nan."""
    return sum(weight * values[:, model] for model, weight in weights.items())


def measure_followed(sheet: Sheet, followed: np.ndarray) -> dict[str, Followed]:
    """Of each model and of the difference, by name; what has no ratings is left out.

    Args:
        followed: that of `Ratings`, (pairs, 2).
    """
    classified = Classified.of(sheet)
    figures: dict[str, Weights] = {name: {model: 1} for model, name in enumerate(sheet.replies.models)}
    found = {}
    for name, weights in (figures | {DIFFERENCE: {0: -1, 1: 1}}).items():
        values = combine(followed, weights)
        is_rated = np.isfinite(values)
        rated = values[is_rated]
        if not len(rated):
            continue
        estimate = estimate_share(rated) if name != DIFFERENCE else estimate_difference(rated, sheet.seed)
        found[name] = Followed(
            len(rated), estimate, *(classified.compare(weights, is_rated, rated) if classified else ())
        )
    return found


def estimate_share(values: np.ndarray) -> Estimate:
    return Estimate.of(values.mean(), intervals.clopper_pearson_interval(float(values.sum()), len(values)))


def estimate_difference(values: np.ndarray, seed: int) -> Estimate:
    interval = intervals.exact_difference_interval(values) or intervals.score_difference_interval(values)
    return Estimate.of(values.mean(), interval, intervals.paired_p_value(values, seed))
