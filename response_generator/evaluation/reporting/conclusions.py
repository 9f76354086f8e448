"""What an evaluation allows to be said, in sentences: a difference between models, or that it may be chance."""

import re
from collections.abc import Sequence

from response_generator.constants import ADAPTER, BASELINE, BEST_OF_NAME
from response_generator.evaluation.comparison import GOLD, Comparison
from response_generator.evaluation.metric import Metric
from response_generator.evaluation.reporting.clear_changes import excludes_zero, explain_noise, is_clear_change
from response_generator.evaluation.reporting.formats import (
    describe_replies,
    format_interval,
    format_number,
    format_p_value,
)
from response_generator.evaluation.statistics.estimates import Estimate

# Where a page or a terminal breaks no line: intervals, p-values, percentages and numbers of prompts.
UNBROKEN = re.compile(
    r"\[[-.\d]+, [-.\d]+\]|\bp (?:= )?\d[-.\de]*|\d[.\d]* -> \d[.\d]*(?: %)?|\d[.\d]* %(?: CI)?|\bn = [\d,]*\d"
)


def draw_conclusions(comparison: Comparison) -> list[str]:
    """Sentences: the difference in emotion accuracy first, with its price where there is a clear gain, then the same at
    equal length, the other tested metrics, those that are not clear in one sentence, other clear changes, the held-out
    pairs, and the error of the emotion classifier itself. Without an emotion classifier the pairs come first."""
    first, *others = comparison.models
    of_pairs = [describe_preference(comparison)] if comparison.preference else []
    found = [] if comparison.has_emotions else [*of_pairs]
    for model in others:
        main, *rest = list_stated(model, comparison)
        clear = [metric for metric in rest if is_clear_change(comparison.differences[model][metric.name])]
        found += [describe_difference(model, first, metric, comparison) for metric in (main, *clear)]
        found += describe_unclear(model, first, [metric for metric in rest if metric not in clear], comparison)
        found += describe_other_changes(model, first, comparison)
    if others:
        found.append(describe_correction(comparison))
    if not others:
        metric = next(metric for metric in comparison.metrics.values() if metric.phrase)
        share = comparison.estimates[first][metric.name]
        whole = "its replies" if comparison.has_emotions else "cases"
        found.append(
            f"The {first} {metric.phrase} in {format_percent(share.value)} of {whole}"
            f"{describe_interval(share)}, {describe_sample_size(comparison, [first], metric)}. There is no baseline to "
            f"compare with."
        )
    if not comparison.has_one_token_count:
        found.append(
            "Numbers of tokens and perplexity are left out: the models count the tokens of the gold replies "
            "differently, because their tokenizers or chat templates differ."
        )
    return [*found, *of_pairs, describe_classifier_ceiling(comparison)] if comparison.has_emotions else found


def list_stated(model: str, comparison: Comparison) -> list[Metric]:
    """The metrics with a phrase in which a difference can be stated: without an interval and a test it cannot."""
    differences = comparison.differences[model]
    known = {name for name, difference in differences.items() if difference.p_corrected is not None}
    return [metric for name, metric in comparison.metrics.items() if metric.phrase and name in known]


def describe_unclear(model: str, first: str, metrics: Sequence[Metric], comparison: Comparison) -> list[str]:
    """One sentence on all metrics whose difference could be noise; none without such metrics."""
    parts = [
        f"{metric.phrase.rstrip(',')} ({format_points(difference)}, {format_corrected_p(difference)}"
        f"{', although the interval excludes 0' if excludes_zero(difference) else ''})"
        for metric in metrics
        for difference in [comparison.differences[model][metric.name]]
    ]
    models = f"{name_model(model, False)}, more or less often than {name_model(first, False)},"
    return [f"It is not clear whether {models} {'; '.join(parts)}: this could be noise."] if parts else []


def describe_correction(comparison: Comparison) -> str:
    first, *others = comparison.models
    comparisons = f" in {len(others)} comparisons with {first}" if len(others) > 1 else ""
    return (
        f"Corrected p-values allow for all {comparison.corrected_differences} differences that were looked at"
        f"{comparisons} (Holm); an interval, and a p-value in the table, is for one difference alone."
    )


def describe_difference(model: str, first: str, metric: Metric, comparison: Comparison) -> str:
    difference = comparison.differences[model][metric.name]
    size = describe_sample_size(comparison, (first, model), metric)
    numbers = f"{format_points(difference)}, {format_corrected_p(difference)}"
    if is_clear_change(difference):
        direction = "more" if difference.value > 0 else "less"
        price = describe_price(model, first, comparison) if is_gain(metric, difference) else ""
        return (
            f"{name_model(model)} {metric.phrase} {direction} often than {name_model(first, False)}: {numbers}, "
            f"{size}{price}."
        )
    return (
        f"It is not clear whether {name_model(model, False)} {metric.phrase} more or less often than "
        f"{name_model(first, False)}: the difference could be noise, because "
        f"{explain_noise(difference)} ({numbers}, {size})."
    )


def is_gain(metric: Metric, difference: Estimate) -> bool:
    """Whether a difference in the metric that the models are trained for is a clear gain."""
    return metric.name == "emotion_accuracy" and difference.value > 0 and is_clear_change(difference)


def describe_price(model: str, first: str, comparison: Comparison) -> str:
    """What a gain is paid with: longer replies, what is clearly worse, and replies that are not kept."""
    best_of = BEST_OF_NAME.fullmatch(model)
    prices = [f"{best_of[2]} sampled replies for each that is kept"] if best_of else []
    for name, metric in comparison.metrics.items():
        difference = comparison.differences[model].get(name)
        if not difference or not is_clear_change(difference):
            continue
        if metric.price and difference.value > 0:
            prices.append(f"{metric.price} ({format_values(model, first, metric, comparison)} {metric.title})")
        elif is_worse(metric, difference):
            prices.append(f"{metric.card or metric.title} ({format_values(model, first, metric, comparison)})")
    length = comparison.differences[model].get("mean_new_tokens")
    is_tested = length and (length.p_corrected is not None or length.value <= 0)
    price = f", and pays with: {', '.join(prices)}" if prices else ", at no price that is clear here"
    return price if is_tested else f"{price}; the length could not be tested"


def is_worse(metric: Metric, difference: Estimate) -> bool:
    return metric.higher_is_better is not None and (difference.value > 0) != metric.higher_is_better


def format_values(model: str, first: str, metric: Metric, comparison: Comparison) -> str:
    before, after = (comparison.estimates[each][metric.name].value for each in (first, model))
    values = " -> ".join(format_number(value, metric.in_percent) for value in (before, after))
    return values + (" %" if metric.in_percent else "")


def describe_other_changes(model: str, first: str, comparison: Comparison) -> list[str]:
    """A sentence on the metrics without a sentence of their own that are clearly worse, unless they are the price of a
    gain, and one on those that are clearly better."""
    changes: dict[str, list[str]] = {"worse": [], "better": []}
    differences = comparison.differences[model]
    has_gain = any(is_gain(comparison.metrics[name], difference) for name, difference in differences.items())
    for name, metric in comparison.metrics.items():
        difference = differences.get(name)
        if metric.higher_is_better is None or metric.phrase or difference is None or not is_clear_change(difference):
            continue
        if has_gain and is_worse(metric, difference):
            continue
        changes["worse" if is_worse(metric, difference) else "better"].append(
            f"{metric.title} {format_values(model, first, metric, comparison)}, 95 % CI of the difference "
            f"{format_interval(difference, metric.in_percent)}"
        )
    return [
        f"{name_model(model)} is clearly {side} than {name_model(first, False)} in: {'; '.join(found)}."
        for side, found in changes.items()
        if found
    ]


def name_model(model: str, capital: bool = True) -> str:
    """The models of one run are "the adapter", "the baseline" and "the baseline best of 6"; compared runs are named by
    their folders."""
    best_of = BEST_OF_NAME.fullmatch(model)
    own = (best_of[1] if best_of else model) in (ADAPTER, BASELINE)
    return f"{'The' if capital else 'the'} {model}" if own else model


def describe_sample_size(comparison: Comparison, models: Sequence[str], metric: Metric) -> str:
    replies = describe_replies(comparison)
    text = f"n = {comparison.count_prompts(metric):,}" + (f" prompts{replies}" if replies else "")
    several = [f"{runs} runs of {model}" for model in models if (runs := comparison.runs[model]) > 1]
    return ", ".join([text, *several])


def format_points(difference: Estimate) -> str:
    return f"{format_number(difference.value, in_percent=True, signed=True)} points{describe_interval(difference)}"


def describe_interval(estimate: Estimate) -> str:
    """Of a proportion, in percent or points."""
    if estimate.low is None:
        return ", no interval because all prompts have the same value"
    return f", 95 % CI {format_interval(estimate, in_percent=True)}"


def format_corrected_p(difference: Estimate) -> str:
    return f"corrected p = {format_p_value(difference.p_corrected)}"


def format_percent(share: float) -> str:
    return f"{format_number(share, in_percent=True)} %"


def describe_preference(comparison: Comparison) -> str:
    """Reward accuracy and mean margin; says so when the accuracy may be 50 %, and how many margins are exactly 0."""
    accuracy = comparison.preference["reward_accuracy"]
    mean = comparison.preference["margin_mean"]
    ties = int((comparison.margins == 0).sum())
    tail = f"; {ties} margin(s) of exactly 0" if ties else ""
    if accuracy.low is None or accuracy.low <= 0.5 <= accuracy.high:
        tail += "; this could be chance (50 %)"
    return (
        f"By its implicit reward against {name_model(BASELINE, False)}, {name_model(ADAPTER, False)} "
        f"prefers the chosen reply in {format_percent(accuracy.value)} of "
        f"{comparison.preference['pairs'].value:,} held-out pairs{describe_interval(accuracy)}; mean margin "
        f"{mean.value:.2f}{tail}."
    )


def describe_classifier_ceiling(comparison: Comparison) -> str:
    """What the emotion classifier says of the gold replies, and how each model differs from them."""
    gold = comparison.estimates[GOLD]["emotion_accuracy"]
    noun = comparison.labels.noun
    text = (
        f"The classifier itself finds the target {noun} in {format_percent(gold.value)} of the gold replies"
        f"{describe_interval(gold)}"
    )
    differences = "; ".join(
        f"{model} {format_points(comparison.gold_differences[model]['emotion_accuracy'])}"
        for model in comparison.models
    )
    same = "the same prompts" if comparison.targets == 1 else f"the same prompts with the same target {noun}"
    differences = f"Differences from the gold replies to {same}: {differences}."
    above = [model for model in comparison.models if comparison.gold_differences[model]["emotion_accuracy"].value > 0]
    if not above:
        return f"{text}: it cannot confirm a higher accuracy of any model. {differences}"
    names = " and ".join(name_model(model, False) for model in above)
    return (
        f"{text}, so it cannot confirm more than that; {names} scored higher, which may show the classifier's "
        f"errors as much as the {noun}. {differences}"
    )
