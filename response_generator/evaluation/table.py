"""The table of an evaluation as text: every model beside the reference replies, and the differences, with intervals."""

import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from response_generator.constants import EMOTIONS
from response_generator.evaluation.comparison import REFERENCE, REFERENCE_WORDS, Comparison, Estimate
from response_generator.evaluation.conclusions import draw_conclusions, p_value
from response_generator.evaluation.metrics import NOT_IN_PERCENT

EMOTION = {
    "emotion_accuracy": "target emotion followed",
    "non_neutral_accuracy": "… of targets other than neutral",
    "target_probability": "probability of the target emotion",
    "emotion_f1_weighted": "emotion F1, weighted",
    "emotion_f1_macro": "emotion F1, macro",
    "emotion_f1_micro_without_neutral": "emotion F1, micro without neutral",
    "non_neutral_f1_weighted": "F1 on targets other than neutral, weighted",
    "non_neutral_f1_macro": "F1 on targets other than neutral, macro",
}
FORM = {
    "complete": "complete replies",
    "stopped_by_limit": "stopped by the token limit",
    "exact_repeats": "same reply to another prompt",
    "copies_of_last_turn": "copies of the user's last turn",
    "mean_new_tokens": "tokens a reply",
    "length_ratio": "length, of the reference's",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "reference_perplexity": "perplexity of the reference reply",
}
PREFERENCE = {
    "chosen_preferred": "chosen preferred",
    "margin_mean": "margin, mean",
    "margin_median": "margin, median",
    "margin_sd": "margin, SD",
}
OF_EACH_EMOTION = {
    "recall": "followed (recall), by target emotion",
    "precision": "precision, by emotion that the classifier reads",
    "f1": "F1, by emotion",
}
LOG_WIDTH = 150
ON_PAPER_ALONE = ("precision", "f1")  # a terminal has too few lines
PLAIN = NOT_IN_PERCENT | {name for name in PREFERENCE if name.startswith("margin")}


@dataclass(frozen=True)
class Section:
    """A part of the table: `rows` are words and then a cell a column."""

    title: str
    rows: list[list[str]]


def header(comparison: Comparison) -> list[str]:
    first, *others = comparison.models
    between = ["difference"] if len(others) == 1 else [f"{model} − {first}" for model in others]
    return ["", *comparison.models, *(between if others else []), REFERENCE_WORDS]


def sections(comparison: Comparison) -> list[Section]:
    """Rates in percent, differences in points, the rest as it is; a cell is "value [low, high]", p behind it."""
    gibberish = {f"gibberish/{label}": label for label in comparison.gibberish_labels}
    parts = {"emotion": EMOTION, "form": FORM, "gibberish detector": gibberish}
    for figure, title in OF_EACH_EMOTION.items():
        parts[title] = {
            f"emotion/{emotion}/{figure}": f"{emotion} (n = {comparison.asking(emotion)})"
            for emotion in EMOTIONS
            if comparison.asking(emotion)
        }
    return [
        Section(title, [[words, *cells(name, comparison)] for name, words in lines.items()])
        for title, lines in parts.items()
    ]


def cells(name: str, comparison: Comparison) -> list[str]:
    _, *others = comparison.models
    found = [cell(name, comparison.figures[model].get(name)) for model in comparison.models]
    found += [cell(name, comparison.differences[model].get(name), signed=True) for model in others]
    return [*found, cell(name, comparison.figures[REFERENCE].get(name))]


def cell(name: str, figure: Estimate | None, signed: bool = False) -> str:
    if figure is None:
        return "–"
    scale, digits = (1, 2) if name in PLAIN else (100, 1)
    value, *bounds = (
        None if number is None else round(number * scale, digits) + 0.0  # no "-0.0"
        for number in (figure.value, figure.low, figure.high)
    )
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if None not in bounds:
        text += f" [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"
    return text + (f" p {p_value(figure.p)}" if figure.p is not None else "")


def preference_lines(comparison: Comparison) -> list[list[str]]:
    return [
        [words, cell(name, comparison.preference[name])] for name, words in PREFERENCE.items() if comparison.preference
    ]


def show(comparison: Comparison, speeds: dict[str, dict[str, float]]) -> None:
    """Prints the claims and the whole table."""
    # No markup: a run's folder may be called [a]. In a log lines may be as long as the table.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else LOG_WIDTH)
    title = f"evaluation of {comparison.prompts} prompts, rates in %, [95 % interval]"
    table = Table(title=Text(title), title_justify="left")
    for number, heading in enumerate(header(comparison)):
        table.add_column(Text(heading), justify="right" if number else "left")
    skipped = [OF_EACH_EMOTION[figure] for figure in ON_PAPER_ALONE]
    for section in sections(comparison):
        if section.title in skipped:
            continue
        table.add_section()
        table.add_row(section.title, style="bold")
        for row in section.rows:
            table.add_row(*map(Text, row))
    console.print(table)
    for words, value in preference_lines(comparison):
        console.print(f"preference pairs ({comparison.preference['pairs'].value}): {words} {value}")
    for model, speed in speeds.items():
        console.print(
            f"{model}: {speed['replies_per_second']:.2f} replies/s, {speed['new_tokens_per_second']:.1f} new tokens/s"
        )
    for claim in draw_conclusions(comparison):
        console.print(claim, soft_wrap=True)
