"""The key figures at the top of the report: how each of them differs between the models."""

from response_generator.evaluation.comparison import GOLD, GOLD_TITLE, Comparison
from response_generator.evaluation.metric import Metric
from response_generator.evaluation.reporting.clear_changes import excludes_zero, explain_noise, is_clear_change
from response_generator.evaluation.reporting.conclusions import format_corrected_p
from response_generator.evaluation.reporting.formats import format_interval, format_number
from response_generator.evaluation.reporting.table import format_bounds
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.reporting.blocks import Card


def build_cards(comparison: Comparison) -> list[Card]:
    first = comparison.models[0]
    return [
        build_card(metric, comparison)
        for metric in comparison.metrics.values()
        if metric.card and metric.name in comparison.estimates[first]
    ]


def describe_cards(comparison: Comparison) -> str:
    first, *others = comparison.models
    if not others:
        return "With 95 % intervals."
    if len(others) == 1:
        return f"{first} → {others[0]}; below, the difference with its 95 % interval."
    return f"In brackets, the difference from {first} with its 95 % interval."


def build_card(metric: Metric, comparison: Comparison) -> Card:
    """One model: its value. Two: both values and the difference. More: a row for each model."""
    first, *others = comparison.models
    estimates = {model: comparison.estimates[model].get(metric.name) for model in (*comparison.models, GOLD)}
    values = {model: format_number(each.value, metric.in_percent) for model, each in estimates.items() if each}
    unit = " %" if metric.in_percent else ""
    gold = [(GOLD_TITLE, values[GOLD] + unit)] if GOLD in values else []
    others = [model for model in others if model in values]
    if not others:
        return Card(metric.card, values[first] + unit, format_bounds(estimates[first], metric.in_percent).strip(), gold)
    differences = {model: comparison.differences[model][metric.name] for model in others}
    if len(comparison.models) == 2:
        note = describe_difference(differences[others[0]], metric)
        return Card(metric.card, f"{values[first]} → {values[others[0]]}{unit}", note, gold)
    rows = [(first, values[first] + unit)]
    for model, difference in differences.items():
        rows.append((model, f"{values[model]}{unit} ({format_difference(difference, metric)})"))
    return Card(metric.card, rows=[*rows, *gold])


def describe_difference(difference: Estimate, metric: Metric) -> str:
    text = format_difference(difference, metric, " points" if metric.in_percent else "")
    if is_clear_change(difference):
        return text
    # An interval that includes 0 is seen at a glance; one that excludes it calls for the reason.
    return f"{text}: could be noise" + (f", because {explain_noise(difference)}" if excludes_zero(difference) else "")


def format_difference(difference: Estimate, metric: Metric, unit: str = "") -> str:
    """With the corrected p-value, as in the conclusions, where the metric has a test."""
    parts = [format_number(difference.value, metric.in_percent, signed=True) + unit]
    parts += [format_interval(difference, metric.in_percent)]
    parts += [format_corrected_p(difference)] if metric.paired_test else []
    return " ".join(part for part in parts if part)
