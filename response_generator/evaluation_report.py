"""The figures of an evaluation as a table on the terminal and as a picture; needs no model."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from response_generator.emotions import EMOTIONS

SHARES = {
    "emotion_accuracy": "emotion accuracy",
    "emotion_f1_weighted": "emotion F1, weighted",
    "emotion_f1_macro": "emotion F1, macro",
    "complete": "complete replies",
    "incomplete": "incomplete replies",
}
AMOUNTS = {
    "mean_new_tokens": "tokens a reply",
    "rows_per_second": "rows/s",
    "new_tokens_per_second": "new tokens/s",
}
GIBBERISH = "gibberish/"


def gibberish_labels(figures: dict[str, float]) -> list[str]:
    return sorted({key.partition(GIBBERISH)[2] for key in figures if GIBBERISH in key})


def show(figures: dict[str, float], models: list[str]) -> None:
    """Prints all figures, baseline beside adapter with the difference."""
    table = Table(title=f"evaluation, n = {figures[f'{models[0]}/rows']:.0f} prompts", title_justify="left")
    table.add_column("")
    for heading in [*models, *(["difference"] if len(models) == 2 else [])]:
        table.add_column(heading, justify="right")
    for key, words in SHARES.items():
        add_row(table, words, [figures[f"{model}/{key}"] * 100 for model in models], "{:.1f} %")
    for label in gibberish_labels(figures):
        add_row(table, label, [figures[f"{model}/{GIBBERISH}{label}"] * 100 for model in models], "{:.1f} %")
    for key, words in AMOUNTS.items():
        add_row(table, words, [figures[f"{model}/{key}"] for model in models], "{:.2f}")
    table.add_section()
    for emotion in EMOTIONS:
        support = figures[f"{models[0]}/emotion/{emotion}/support"]
        if not support:
            continue
        values = [figures[f"{model}/emotion/{emotion}/recall"] * 100 for model in models]
        add_row(table, f"{emotion} (n = {support:.0f}) followed", values, "{:.1f} %")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"the emotion classifier names the emotion of {figures['judge/accuracy_on_references'] * 100:.1f} % of the "
        f"reference replies as written: no model can be certified beyond that"
    )


def add_row(table: Table, words: str, values: list[float], form: str) -> None:
    cells = [form.format(value) for value in values]
    if len(values) == 2:
        cells.append(f"{values[1] - values[0]:+.2f}" if "%" not in form else f"{values[1] - values[0]:+.1f}")
    table.add_row(words, *cells)


def draw(figures: dict[str, float], models: list[str], picture: Path) -> None:
    """Draws the target emotion followed, by emotion, and the quality of the replies."""
    figure, (emotions, quality) = plt.subplots(1, 2, figsize=(14, 5), layout="constrained", width_ratios=(3, 2))
    labels = gibberish_labels(figures)
    for number, model in enumerate(models):
        followed = [figures[f"{model}/emotion_accuracy"]]
        followed += [figures[f"{model}/emotion/{emotion}/recall"] for emotion in EMOTIONS]
        shares = [figures[f"{model}/complete"], *(figures[f"{model}/{GIBBERISH}{label}"] for label in labels)]
        for axes, values in ((emotions, followed), (quality, shares)):
            width = 0.8 / len(models)
            places = [place + (number - (len(models) - 1) / 2) * width for place in range(len(values))]
            bars = axes.bar(places, [value * 100 for value in values], width, label=model)
            axes.bar_label(bars, fmt="%.0f", fontsize=8)
    emotions.set_title(f"target emotion followed (%, n = {figures[f'{models[0]}/rows']:.0f})")
    emotions.set_xticks(range(len(EMOTIONS) + 1), ["all", *EMOTIONS])
    quality.set_title("complete replies, and gibberish labels (%)")
    quality.set_xticks(range(len(labels) + 1), ["complete", *labels])
    for axes in (emotions, quality):
        axes.set_ylim(0, 118)  # room for the legend above the longest bar
        axes.set_yticks(range(0, 101, 20))
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="upper right", ncols=len(models))
    figure.savefig(picture, dpi=110)
    plt.close(figure)
