"""All figures of an evaluation with their intervals, and the paired differences between its models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from response_generator.evaluation import intervals, metrics
from response_generator.evaluation.predictions_file import Prediction

REFERENCE = "reference"  # the replies that people wrote, judged as the models' are
REFERENCE_WORDS = "reference replies"  # what people are told
GROUPS = (REFERENCE, "difference", "preference")  # of metrics.json, beside the models; no model may be called so
OF_REFERENCES = (
    "emotion_accuracy emotion_f1_weighted emotion_f1_macro emotion_f1_micro_without_neutral non_neutral_accuracy "
    "non_neutral_f1_weighted non_neutral_f1_macro complete mean_new_tokens distinct_1 distinct_2"
).split()
TESTED = ("emotion_accuracy", "non_neutral_accuracy", "complete", "stopped_by_limit")
TESTED_FAMILIES = ("gibberish/",)
NOTHING = (np.array([]), np.array([]))


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and for a difference of shares the p of "no difference"."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What is known of every model; the first one is what the others are compared with.

    figures: `{model or "reference": {name: Figure}}`. differences: `{model: {name: Figure}}`, for all but the first.
    preference: the adapter's implicit rewards on held-out pairs; empty where none were measured.
    """

    rows: dict[str, list[Prediction]]
    figures: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    margins: np.ndarray
    preference: dict[str, Estimate]

    @property
    def models(self) -> list[str]:
        return list(self.rows)

    @cached_property
    def prompts(self) -> int:
        return len({row["index"] for row in self.rows[self.models[0]]})

    @cached_property
    def references(self) -> list[Prediction]:
        """The reference replies as if a model had given them."""
        return metrics.gold_as_predictions(self.rows[self.models[0]])

    @property
    def samples(self) -> int:
        return len(self.rows[self.models[0]]) // self.prompts

    def asking(self, *emotions: str) -> int:
        """Prompts whose target is one of these."""
        rows = self.rows[self.models[0]]
        return len({row["index"] for row in rows if row["target_emotion"] in emotions})

    @property
    def gibberish_labels(self) -> list[str]:
        names = self.figures[self.models[0]]
        return [name.partition("/")[2] for name in names if name.startswith("gibberish/")]

    def flat(self) -> dict[str, float]:
        """For metrics.json: `model/figure`, with `/low`, `/high` and `/p` after it."""
        flat: dict[str, float] = {"prompts": self.prompts, "samples_per_prompt": self.samples}
        groups = dict(self.figures)
        groups |= {
            "difference" if len(self.differences) == 1 else f"difference of {model}": figures
            for model, figures in self.differences.items()
        }
        groups |= {"preference": self.preference} if self.preference else {}
        for group, figures in groups.items():
            for name, figure in figures.items():
                flat[f"{group}/{name}"] = figure.value
                bounds = {part: bound for part, bound in asdict(figure).items() if part != "value"}
                flat |= {f"{group}/{name}/{part}": bound for part, bound in bounds.items() if bound is not None}
        for model, rows in (self.rows | {REFERENCE: self.references}).items():
            for target, counts in zip(metrics.EMOTIONS, metrics.confusions(rows).tolist(), strict=True):
                flat |= {
                    f"{model}/confusion/{target}/{predicted}": count
                    for predicted, count in zip(metrics.EMOTIONS, counts, strict=True)
                }
        return flat


def compare_models(
    rows: dict[str, list[Prediction]],
    gibberish_labels: Sequence[str],
    resamples: int,
    seed: int,
    margins: np.ndarray | None = None,
) -> Comparison:
    """Computes everything from rows of the same prompts, each model's in the order of prompts and samples.

    Args:
        gibberish_labels: the detector's; labels that only the rows know are added.
        margins: reward margins of held-out pairs, (pairs,).
    """
    seen = {row[name] for of in rows.values() for row in of for name in ("gibberish_label", "reference_gibberish")}
    labels = [*gibberish_labels, *sorted(seen - set(gibberish_labels))]
    everyone = rows | {REFERENCE: metrics.gold_as_predictions(next(iter(rows.values())))}
    sums = {model: metrics.MetricTotals.of(of, labels) for model, of in everyone.items()}
    distinct = {
        model: {name: metrics.Distinct.of(of, n) for n, name in metrics.DISTINCT.items()}
        for model, of in everyone.items()
    }
    replicates = resampled(sums, resamples, seed)
    figures = {
        model: figures_of(everyone[model], sums[model], distinct[model], replicates[model]) for model in everyone
    }
    kept = {*OF_REFERENCES, *(f"gibberish/{label}" for label in labels)}
    kept |= {name for name in figures[REFERENCE] if name.startswith("emotion/")}
    figures[REFERENCE] = {name: figure for name, figure in figures[REFERENCE].items() if name in kept}
    first, *others = rows
    differences = {
        model: {
            name: difference(name, (first, model), figures, sums, distinct, replicates, seed)
            for name in figures[first]
            if name in figures[model] and not name.endswith("/support")
        }
        for model in others
    }
    margins = np.array([]) if margins is None else margins
    return Comparison(rows, figures, differences, margins, preference_of(margins, resamples, seed))


def resampled(sums: dict[str, metrics.MetricTotals], count: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Every figure of every model in each resample, (count,); a resample draws the same prompts for all models."""
    prompts = next(iter(sums.values())).prompts
    blocks: dict[str, list[dict[str, np.ndarray]]] = {model: [] for model in sums}
    for weights in intervals.resamples(prompts, count, seed):
        for model, of_model in sums.items():
            blocks[model].append(of_model.figures(weights))
    return {
        model: {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        for model, found in blocks.items()
    }


def figures_of(
    rows: list[Prediction],
    sums: metrics.MetricTotals,
    distinct: dict[str, metrics.Distinct],
    replicates: dict[str, np.ndarray],
) -> dict[str, Estimate]:
    """One model's figures; those without a value, such as accuracy on emotions that nobody asks for, are left out."""
    whole = {name: float(values[0]) for name, values in sums.figures(np.ones((1, sums.prompts))).items()}
    figures = {}
    for name, value in (whole | metrics.classification(rows)).items():
        if not np.isfinite(whole.get(name, value)):
            continue  # nothing to divide by: scikit-learn would say 0
        bounds = interval_of(name, value, sums, replicates) if name in replicates else None
        figures[name] = Estimate(value, *(bounds or (None, None)))
    for name, of in distinct.items():
        bounds = intervals.within(intervals.jackknife(of.whole, of.leave_one_out), 0.0, 1.0)
        figures[name] = Estimate(of.whole, *(bounds or (None, None)))
    return figures


def is_share(name: str, sums: metrics.MetricTotals) -> bool:
    return name in sums.quotients and name not in metrics.AMOUNTS


def interval_of(
    name: str, value: float, sums: metrics.MetricTotals, replicates: dict[str, np.ndarray]
) -> intervals.Interval | None:
    if is_share(name, sums) and value in (0.0, 1.0):
        asked = int((sums.quotients[name][1] > 0).sum())
        return intervals.exact_share(asked if value else 0, asked)
    return intervals.percentile(replicates[name])


def difference(
    name: str,
    pair: tuple[str, str],
    figures: dict[str, dict[str, Estimate]],
    sums: dict[str, metrics.MetricTotals],
    distinct: dict[str, dict[str, metrics.Distinct]],
    replicates: dict[str, dict[str, np.ndarray]],
    seed: int,
) -> Estimate:
    """The second model's figure less the first one's, on the same prompts in every resample."""
    first, second = pair
    value = figures[second][name].value - figures[first][name].value
    if name in distinct[first]:
        one, other = (distinct[model][name].leave_one_out for model in pair)
        bounds = intervals.jackknife(value, other - one) if len(one) == len(other) else None
        return Estimate(value, *(intervals.within(bounds, -1.0, 1.0) or (None, None)))
    bounds = intervals.percentile(replicates[second][name] - replicates[first][name])
    p = None
    (one, asked), (other, asked_too) = (sums[model].quotients.get(name, NOTHING) for model in pair)
    if is_share(name, sums[first]) and np.array_equal(asked, asked_too):
        of_prompts = (other - one)[asked > 0] / asked[asked > 0]
        bounds = intervals.exact_difference(of_prompts) or bounds
        if name in TESTED or name.startswith(TESTED_FAMILIES):
            p = intervals.paired_p(of_prompts, seed)
    return Estimate(value, *(bounds or (None, None)), p)


def preference_of(margins: np.ndarray, resamples: int, seed: int) -> dict[str, Estimate]:
    """How often, and by how much, the implicit reward prefers `chosen`; a tie is no preference."""
    if not len(margins):
        return {}
    wins = margins > 0
    shares, means = [], []
    for weights in intervals.resamples(len(margins), resamples, seed):
        shares.append(weights @ wins / len(margins))
        means.append(weights @ margins / len(margins))
    alike = wins.all() or not wins.any()
    bounds = (
        intervals.exact_share(int(wins.sum()), len(wins)) if alike else intervals.percentile(np.concatenate(shares))
    )
    of_mean = intervals.percentile(np.concatenate(means))
    quartiles = dict(zip(("p25", "median", "p75"), np.quantile(margins, (0.25, 0.5, 0.75)), strict=True))
    return {
        "chosen_preferred": Estimate(float(wins.mean()), *(bounds or (None, None))),
        "margin_mean": Estimate(float(margins.mean()), *(of_mean or (None, None))),
        **{f"margin_{name}": Estimate(float(value)) for name, value in quartiles.items()},
        "margin_sd": Estimate(float(margins.std())),
        "pairs": Estimate(len(margins)),
    }
