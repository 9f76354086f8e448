"""Writes report.html, summary.md and the plots of an evaluation. Needs no model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from response_generator.evaluation import cards, plots, table
from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.conclusions import UNBROKEN, draw_conclusions
from response_generator.evaluation.reply_browser import build_browser
from response_generator.reporting.blocks import (
    Block,
    Cards,
    Paragraph,
    Pictures,
    Section,
    Sentences,
    Table,
    list_settings,
)
from response_generator.reporting.markdown import escape, escape_cell
from response_generator.reporting.page import write_page
from response_generator.reporting.pictures import write_pictures
from response_generator.runs import atomic_files

METRICS_STYLE = "metrics blocks"  # classes of report.css


def write_report(
    comparison: Comparison, title: str, settings: dict[str, str], environment: dict[str, str], folder: Path
) -> list[Path]:
    """Writes report.html, summary.md and the PNG files, and returns the PNG files.

    Args:
        title: of the page; it names the run and the adapters.
        settings, environment: `{key: value}` of the args and of environment.json, shown in the report.
    """
    pictures = write_pictures(plots.draw_plots(comparison), folder)
    first, *conclusions = [keep_unbroken(conclusion) for conclusion in draw_conclusions(comparison)]
    key_figures = [replace(card, note=keep_unbroken(card.note)) for card in cards.build_cards(comparison)]
    blocks = [
        Paragraph(first, "conclusion"),
        Cards(key_figures),
        Paragraph(cards.describe_cards(comparison)),
        Pictures(pictures[:1]),
        Section("Conclusions", [Sentences(conclusions)]),
        Section("Metrics", list(show_metrics(comparison)), "on phones"),
        Section("Metrics by emotion", [show_table(comparison, by_emotion=True)], "always"),
        Section("Differences from the gold replies", show_gold_differences(comparison), "always"),
        Section("Plots", [Pictures(pictures[1:])], "on phones"),
        build_browser(comparison),
        list_settings("Settings", settings),
        list_settings("Environment", environment),
    ]
    write_page(folder / "report.html", title, blocks)
    atomic_files.atomic_write(folder / "summary.md", format_summary(comparison).encode("utf-8"))
    return [folder / f"{picture.name}.png" for picture in pictures]


def show_metrics(comparison: Comparison) -> Iterator[Block]:
    yield Paragraph(table.describe_cells(comparison))
    yield show_table(comparison, by_emotion=False)
    if comparison.preference:
        yield Table({"": table.format_preference(comparison)}, title="Held-out preference pairs", style=METRICS_STYLE)


def show_table(comparison: Comparison, by_emotion: bool) -> Table:
    groups = {
        title: rows
        for title, rows in table.build_groups(comparison).items()
        if (title in table.BY_EMOTION) == by_emotion
    }
    return Table(groups, table.build_header(comparison), style=METRICS_STYLE)


def show_gold_differences(comparison: Comparison) -> list[Block]:
    groups, header = table.build_gold_groups(comparison), table.build_gold_header(comparison)
    note = Paragraph("On the same prompts, with 95 % intervals.")
    return [note, Table(groups, header, style=METRICS_STYLE)]


def keep_unbroken(text: str) -> Markup:
    """The text for a page in which no line is broken inside of an interval or another part of UNBROKEN."""
    marked, end = Markup(), 0
    for part in UNBROKEN.finditer(text):
        marked += text[end : part.start()]  # Markup escapes what is added to it
        marked += Markup('<span class="unbroken">{}</span>').format(part[0])
        end = part.end()
    return marked + text[end:]


def format_summary(comparison: Comparison) -> str:
    """The conclusions and the table in Markdown, for a README or a pull request."""
    first, *others = map(escape, draw_conclusions(comparison))
    lines = [f"**{first}**", "", *(f"- {conclusion}" for conclusion in others), ""]
    lines += format_table(table.build_header(comparison), table.build_groups(comparison))
    lines += ["", *format_table(table.build_gold_header(comparison), table.build_gold_groups(comparison))]
    if comparison.preference:
        lines += ["", "| held-out preference pairs | |", "|---|--:|"]
        lines += [f"| {title} | {value} |" for title, value in table.format_preference(comparison)]
    lines += ["", f"Rates in %, differences in points, [95 % interval]; {comparison.prompts} prompts.", ""]
    return "\n".join(lines)


def format_table(header: list[str], groups: table.Groups) -> list[str]:
    lines = [f"| {' | '.join(map(escape_cell, header))} |", "|---" + "|--:" * (len(header) - 1) + "|"]
    for title, rows in groups.items():
        lines.append(f"| **{escape_cell(title)}** {'| ' * (len(header) - 1)}|")
        lines += [f"| {' | '.join(map(escape_cell, row))} |" for row in rows]
    return lines
