"""The table of an evaluation as text: every model beside the gold replies, and the differences, with intervals."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from response_generator.evaluation.comparison import GOLD, GOLD_TITLE, Comparison, count_prompts_with_target
from response_generator.evaluation.metric import Metric
from response_generator.evaluation.metrics import name_label_sections
from response_generator.evaluation.reporting.formats import (
    describe_replies,
    format_interval,
    format_number,
    format_p_value,
)
from response_generator.evaluation.statistics.corrected import CORRECTED
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.evaluation.statistics.intervals import MIN_PROMPTS
from response_generator.reporting.blocks import Table

PREFERENCE_TITLES = {
    "reward_accuracy": "reward accuracy (chosen preferred)",
    "margin_mean": "margin, mean",
    "margin_median": "margin, median",
    "margin_sd": "margin, SD",
}
STYLE = "metrics blocks"  # classes of report.css

Groups = dict[str, list[list[str]]]  # rows by section; a row is a title and then one cell per column
CellFormat = Callable[..., str]  # format_cell, or another with its arguments
RowFormat = Callable[[Metric, Comparison, CellFormat], list[str]]


def describe_cells(comparison: Comparison) -> str:
    runs = " and from the variation between training runs" if max(comparison.runs.values()) > 1 else ""
    corrected = ""
    if CORRECTED in comparison.estimates[comparison.models[0]]:
        corrected = (
            " The accuracy without the classifier's errors assumes that it makes the same errors on generated replies "
            "as on gold replies."
        )
    rare = f", as of a rare {comparison.labels.noun}" if comparison.has_emotions else ""
    return (
        "Rates in percent, differences in points. 95 % intervals are in brackets; they come from resampling the "
        f"{comparison.prompts:,} prompts{describe_replies(comparison)}{runs}. With fewer than {MIN_PROMPTS} "
        f"prompts{rare}, shares and their differences have intervals that hold for few prompts, and other metrics have "
        "none. p is the p-value of “no difference”, of that metric alone; the conclusions correct it for the number of "
        f"metrics. distinct-n is that of as many n-grams as the shortest text has.{corrected}"
    )


def build_header(comparison: Comparison) -> list[str]:
    first, *others = comparison.models
    between = ["difference"] if len(others) == 1 else [f"{model} − {first}" for model in others]
    models = [f"{model} ({runs} runs)" if runs > 1 else model for model, runs in comparison.runs.items()]
    return ["", *models, *(between if others else []), GOLD_TITLE]


def build_table(comparison: Comparison) -> Table:
    """Rates in percent, differences in points, the rest as it is; a cell is "value [low, high]", p after it."""
    groups = group_rows(comparison, comparison.metrics.values(), format_cell, format_cells)
    return Table(groups, build_header(comparison), style=STYLE)


def build_report_tables(comparison: Comparison) -> tuple[Table, Table]:
    """`build_table`, as the metrics of all replies, and those of each label."""
    table, of_labels = build_table(comparison), name_label_sections(comparison.labels)
    of_all_replies = {title: rows for title, rows in table.groups.items() if title not in of_labels}
    by_label = {title: rows for title, rows in table.groups.items() if title in of_labels}
    return replace(table, groups=of_all_replies), replace(table, groups=by_label)


def build_gold_table(comparison: Comparison) -> Table:
    """The differences of each model from the gold replies to the same prompts."""
    metrics = [metric for metric in comparison.metrics.values() if metric.on_gold]
    header = ["", *(f"{model} − {GOLD_TITLE}" for model in comparison.models)]
    groups = group_rows(comparison, metrics, format_cell, format_gold_cells, beside_gold=True)
    return Table(groups, header, style=STYLE)


def group_rows(
    comparison: Comparison,
    metrics: Iterable[Metric],
    form: CellFormat,
    format_row: RowFormat,
    beside_gold: bool = False,
) -> Groups:
    """
    Args:
        beside_gold: the cells are of the replies that have the target of their gold reply alone.
    """
    rows = comparison.gold_predictions if beside_gold else comparison.rows[comparison.models[0]]
    ngrams = comparison.gold_ngrams if beside_gold else comparison.ngrams
    groups: Groups = {}
    of_labels = name_label_sections(comparison.labels)
    for metric in metrics:
        title = metric.title
        if metric.section in of_labels:
            prompts = count_prompts_with_target(rows, title)
            if not prompts:
                continue
            title = f"{title} (n = {prompts})"
        elif metric.name == CORRECTED:
            if metric.name not in comparison.estimates[comparison.models[0]]:
                continue
            title += f", of other targets than {', '.join(comparison.uncorrected)}" if comparison.uncorrected else ""
        elif metric.name in ngrams:
            title = f"{title} in {ngrams[metric.name]:,} n-grams"
        groups.setdefault(metric.section, []).append([title, *format_row(metric, comparison, form)])
    return groups


def format_cells(metric: Metric, comparison: Comparison, form: CellFormat) -> list[str]:
    _, *others = comparison.models
    name, percent = metric.name, metric.in_percent
    cells = [form(comparison.estimates[model].get(name), percent) for model in comparison.models]
    cells += [form(comparison.differences[model].get(name), percent, signed=True) for model in others]
    return [*cells, form(comparison.estimates[GOLD].get(name), percent)]


def format_gold_cells(metric: Metric, comparison: Comparison, form: CellFormat) -> list[str]:
    found = [comparison.gold_differences[model].get(metric.name) for model in comparison.models]
    return [form(each, metric.in_percent, signed=True) for each in found]


def format_cell(estimate: Estimate | None, in_percent: bool, signed: bool = False) -> str:
    if estimate is None:
        return "–"
    return format_number(estimate.value, in_percent, signed) + format_bounds(estimate, in_percent)


def format_bounds(estimate: Estimate, in_percent: bool) -> str:
    """The interval and the p-value, each with a space before it, as far as there are any."""
    parts = (format_interval(estimate, in_percent), format_p(estimate))
    return "".join(f" {part}" for part in parts if part)


def format_p(estimate: Estimate) -> str:
    return "" if estimate.p is None else f"p {format_p_value(estimate.p)}"


def format_preference(comparison: Comparison) -> list[list[str]]:
    return [
        [title, format_cell(comparison.preference[name], in_percent=name == "reward_accuracy")]
        for name, title in PREFERENCE_TITLES.items()
        if comparison.preference
    ]
