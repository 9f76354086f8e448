"""Writes report.html, summary.md and the plots of an evaluation. Needs no model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.reporting import cards, plots, table
from response_generator.evaluation.reporting.classifier_block import build_classifier_section
from response_generator.evaluation.reporting.conclusions import UNBROKEN, draw_conclusions
from response_generator.evaluation.reporting.formats import Throughput, describe_replies, describe_speed
from response_generator.evaluation.reporting.reply_browser import build_browser
from response_generator.reporting.blocks import Cards, Paragraph, Pictures, Section, Sentences, Table, list_settings
from response_generator.reporting.markdown import escape, escape_cell
from response_generator.reporting.page import write_page
from response_generator.reporting.pictures import write_pictures
from response_generator.runs import atomic_files
from response_generator.scoring.quality import ClassifierQuality


def write_report(
    comparison: Comparison,
    title: str,
    settings: dict[str, str],
    environment: dict[str, str],
    folder: Path,
    quality: ClassifierQuality | None = None,
    throughput: Throughput | None = None,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Writes report.html, summary.md and the PNG files, and returns the PNG files.

    Args:
        title: of the page; it names the run and the adapters.
        settings, environment: `{key: value}` of the args and of environment.json, shown in the report.
        quality: how good the emotion classifier is, as far as it is known.
        throughput: of the models whose replies this run has generated.
        notes: sentences on how the replies were written.
    """
    pictures = write_pictures(plots.draw_plots(comparison), folder)
    first, *conclusions = [keep_unbroken(conclusion) for conclusion in draw_conclusions(comparison)]
    noun = comparison.labels.noun
    key_figures = [replace(card, note=keep_unbroken(card.note)) for card in cards.build_cards(comparison)]
    of_all_replies, by_label = table.build_report_tables(comparison)
    pairs = table.format_preference(comparison)
    of_pairs = [Table({"": pairs}, title="Held-out preference pairs", style=table.STYLE)] if pairs else []
    target = "" if comparison.targets == 1 else f" with the same target {noun}"
    speed = [Paragraph("; ".join(lines))] if (lines := describe_speed(throughput or {})) else []
    how_to_read = Paragraph(table.describe_cells(comparison))
    gold_note = Paragraph(f"On the same prompts{target}, with 95 % intervals.")
    blocks = [
        Paragraph(first, "conclusion"),
        Cards(key_figures),
        Paragraph(cards.describe_cards(comparison)),
        Pictures(pictures[:1]),
        Section("Conclusions", [Sentences(conclusions)]),
        Section("Metrics", [how_to_read, of_all_replies, *speed, *map(Paragraph, notes), *of_pairs], "on phones"),
        *([build_classifier_section(comparison, quality)] if comparison.has_emotions else []),
        *([Section(f"Metrics by {noun}", [by_label], "always")] if comparison.has_emotions else []),
        Section("Differences from the gold replies", [gold_note, table.build_gold_table(comparison)], "always"),
        Section("Plots", [Pictures(pictures[1:])], "on phones"),
        build_browser(comparison),
        list_settings("Settings", settings),
        list_settings("Environment", environment),
    ]
    write_page(folder / "report.html", title, blocks)
    summary = format_summary(comparison, throughput or {}, notes)
    atomic_files.atomic_write(folder / "summary.md", summary.encode("utf-8"))
    return [folder / f"{picture.name}.png" for picture in pictures]


def keep_unbroken(text: str) -> Markup:
    """The text for a page in which no line is broken inside of an interval or another part of UNBROKEN."""
    marked, end = Markup(), 0
    for part in UNBROKEN.finditer(text):
        marked += text[end : part.start()]  # Markup escapes what is added to it
        marked += Markup('<span class="unbroken">{}</span>').format(part[0])
        end = part.end()
    return marked + text[end:]


def format_summary(comparison: Comparison, throughput: Throughput, notes: Sequence[str]) -> str:
    """The conclusions and the table in Markdown, for a README or a pull request."""
    size = f"{comparison.prompts} prompts{describe_replies(comparison)}"
    first, *others = map(escape, draw_conclusions(comparison))
    lines = [f"**{first}**", "", *(f"- {conclusion}" for conclusion in others), ""]
    lines += format_table(table.build_table(comparison))
    lines += ["", *format_table(table.build_gold_table(comparison))]
    if comparison.preference:
        lines += ["", "| held-out preference pairs | |", "|---|--:|"]
        lines += [f"| {title} | {value} |" for title, value in table.format_preference(comparison)]
    lines += ["", f"Rates in %, differences in points, [95 % interval]; {size}.", ""]
    lines += [f"- {line}" for line in map(escape, [*describe_speed(throughput), *notes])]
    return "\n".join(lines)


def format_table(table: Table) -> list[str]:
    columns = len(table.header)
    lines = [f"| {' | '.join(map(escape_cell, table.header))} |", "|---" + "|--:" * (columns - 1) + "|"]
    for title, rows in table.groups.items():
        lines.append(f"| **{escape_cell(title)}** {'| ' * (columns - 1)}|")
        lines += [f"| {' | '.join(map(escape_cell, row))} |" for row in rows]
    return lines
