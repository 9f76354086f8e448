"""The table of an evaluation as text: every model beside the gold replies, and the differences, with intervals."""

import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from response_generator.evaluation.comparison import GOLD, GOLD_TITLE, Comparison
from response_generator.evaluation.conclusions import draw_conclusions, format_p_value
from response_generator.evaluation.estimates import Estimate
from response_generator.evaluation.metrics import F1, PRECISION, RECALL, Metric

PREFERENCE_TITLES = {
    "reward_accuracy": "reward accuracy (chosen preferred)",
    "margin_mean": "margin, mean",
    "margin_median": "margin, median",
    "margin_sd": "margin, SD",
}
PER_EMOTION_SECTIONS = (RECALL, PRECISION, F1)
NOT_ON_TERMINAL = (PRECISION, F1)  # too long for one screen; the report has them
LOG_WIDTH = 150  # characters, where the output is not a terminal


@dataclass(frozen=True)
class Section:
    """A part of the table. Each row is a title and then one cell per column."""

    title: str
    rows: list[list[str]]

    @property
    def is_by_emotion(self) -> bool:
        return self.title in PER_EMOTION_SECTIONS


def build_header(comparison: Comparison) -> list[str]:
    first, *others = comparison.models
    between = ["difference"] if len(others) == 1 else [f"{model} − {first}" for model in others]
    models = [f"{model} ({runs} runs)" if runs > 1 else model for model, runs in comparison.runs.items()]
    return ["", *models, *(between if others else []), GOLD_TITLE]


def build_sections(comparison: Comparison) -> list[Section]:
    """Rates in percent, differences in points, the rest as it is; a cell is "value [low, high]", p after it."""
    rows: dict[str, list[list[str]]] = {}
    for metric in comparison.metrics.values():
        title = metric.title
        if metric.section in PER_EMOTION_SECTIONS:
            prompts = comparison.num_prompts_with_target(title)
            if not prompts:
                continue
            title = f"{title} (n = {prompts})"
        rows.setdefault(metric.section, []).append([title, *format_cells(metric, comparison)])
    return [Section(title, lines) for title, lines in rows.items()]


def format_cells(metric: Metric, comparison: Comparison) -> list[str]:
    _, *others = comparison.models
    name, percent = metric.name, metric.in_percent
    cells = [format_cell(comparison.estimates[model].get(name), percent) for model in comparison.models]
    cells += [format_cell(comparison.differences[model].get(name), percent, signed=True) for model in others]
    return [*cells, format_cell(comparison.estimates[GOLD].get(name), percent)]


def format_cell(estimate: Estimate | None, in_percent: bool, signed: bool = False) -> str:
    if estimate is None:
        return "–"
    return format_number(estimate.value, in_percent, signed) + format_bounds(estimate, in_percent)


def format_number(number: float, in_percent: bool, signed: bool = False) -> str:
    scale, digits = (100, 1) if in_percent else (1, 2)
    rounded = round(number * scale, digits) + 0.0  # no "-0.0"
    return f"{rounded:{'+' if signed else ''}.{digits}f}"


def format_bounds(estimate: Estimate, in_percent: bool) -> str:
    """The interval and the p-value, each with a space before it, as far as there are any."""
    text = ""
    if estimate.low is not None:
        text += f" [{format_number(estimate.low, in_percent)}, {format_number(estimate.high, in_percent)}]"
    return text + (f" p {format_p_value(estimate.p)}" if estimate.p is not None else "")


def format_preference(comparison: Comparison) -> list[list[str]]:
    return [
        [title, format_cell(comparison.preference[name], in_percent=name == "reward_accuracy")]
        for name, title in PREFERENCE_TITLES.items()
        if comparison.preference
    ]


def open_console() -> Console:
    # No markup: a run folder may be called [a].
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else LOG_WIDTH)


def show_table(comparison: Comparison, throughput: dict[str, dict[str, float]]) -> None:
    """Prints the table and the conclusions."""
    console = open_console()
    title = f"evaluation of {comparison.prompts} prompts, rates in %, [95 % interval]"
    table = Table(title=Text(title), title_justify="left")
    for number, heading in enumerate(build_header(comparison)):
        table.add_column(Text(heading), justify="right" if number else "left")
    for section in build_sections(comparison):
        if section.title in NOT_ON_TERMINAL:
            continue
        table.add_section()
        table.add_row(section.title, style="bold")
        for row in section.rows:
            table.add_row(*map(Text, row))
    console.print(table)
    for heading, value in format_preference(comparison):
        console.print(f"preference pairs ({comparison.preference['pairs'].value}): {heading} {value}")
    for model, speed in throughput.items():
        console.print(
            f"{model}: {speed['replies_per_second']:.2f} replies/s, {speed['new_tokens_per_second']:.1f} new tokens/s"
        )
    for conclusion in draw_conclusions(comparison):
        console.print(conclusion, soft_wrap=True)
