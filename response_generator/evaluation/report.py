"""Writes report.html, summary.md and the plots of an evaluation. Needs no model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from response_generator.constants import EMOTIONS
from response_generator.evaluation import cards, plots, table
from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.conclusions import UNBROKEN, draw_conclusions
from response_generator.evaluation.intervals import MIN_PROMPTS
from response_generator.evaluation.predictions_file import group_by_run
from response_generator.reporting.markdown import escape, escape_cell
from response_generator.reporting.page import to_data_url, write_page
from response_generator.runs import atomic_files

PAGE_FOLDER = Path(__file__).with_name("page")
PLOT_DESCRIPTIONS = {
    "emotions": "how often each model follows each target emotion",
    "confusion": "target emotion against predicted emotion, for every model and for the gold replies",
    "quality": "form of the replies, and the labels of the gibberish classifier",
    "lengths": "lengths of the replies and of the gold replies",
    "margins": "reward margins of the held-out preference pairs",
}


def write_report(
    comparison: Comparison, title: str, settings: dict[str, str], environment: dict[str, str], folder: Path
) -> list[Path]:
    """Writes report.html, summary.md and the PNG files, and returns the PNG files.

    Args:
        title: of the page; it names the run and the adapters.
        settings, environment: `{key: value}` of the args and of environment.json, shown in the report.
    """
    vectors = plots.write_plots(comparison, folder)
    write_page(
        folder / "report.html",
        PAGE_FOLDER,
        title=title,
        conclusions=[keep_unbroken(conclusion) for conclusion in draw_conclusions(comparison)],
        cards=[replace(card, note=keep_unbroken(card.note)) for card in cards.build_cards(comparison)],
        cards_note=cards.describe_cards(comparison),
        header=table.build_header(comparison),
        sections=table.build_sections(comparison),
        gold_header=table.build_gold_header(comparison),
        gold_sections=table.build_gold_sections(comparison),
        preference=table.format_preference(comparison),
        pictures=[(name, PLOT_DESCRIPTIONS[name], to_data_url(vector)) for name, vector in vectors.items()],
        settings=settings,
        environment=environment,
        emotions=EMOTIONS,
        models=comparison.models,
        prompts=comparison.prompts,
        samples=comparison.samples,
        min_prompts=MIN_PROMPTS,
        several_runs=max(comparison.runs.values()) > 1,
        replies=collect_browser_rows(comparison),
    )
    atomic_files.atomic_write(folder / "summary.md", format_summary(comparison).encode("utf-8"))
    return [folder / f"{name}.png" for name in vectors]


def keep_unbroken(text: str) -> Markup:
    """The text for a page in which no line is broken inside of an interval or another part of UNBROKEN."""
    marked, end = Markup(), 0
    for part in UNBROKEN.finditer(text):
        marked += text[end : part.start()]  # Markup escapes what is added to it
        marked += Markup('<span class="unbroken">{}</span>').format(part[0])
        end = part.end()
    return marked + text[end:]


def collect_browser_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per prompt and sample for report.js: the prompt, and every model's reply with its labels. Of a recipe
    that was trained several times, the replies of the first run."""
    rows = []
    for predictions in zip(*(group_by_run(each)[0] for each in comparison.rows.values()), strict=True):
        prompt = predictions[0]
        rows.append(
            {
                "index": prompt["index"],
                "sample": prompt["sample"],
                "target": prompt["target_emotion"],
                "history": [
                    {"role": turn["role"], "emotion": turn["content"]["emotion"], "text": turn["content"]["dialog"]}
                    for turn in prompt["history"]
                ],
                "gold": {"text": prompt["gold_response"], "emotion": prompt["gold_emotion"]},
                "replies": [
                    {
                        "text": row["response"],
                        "emotion": row["predicted_emotion"],
                        "score": row["emotion_score"],
                        "target": row["target_probability"],
                        "gibberish": row["gibberish_label"],
                        "ends_with_punctuation": row["ends_with_punctuation"],
                        "hit_max_new_tokens": row["hit_max_new_tokens"],
                        "tokens": row["new_tokens"],
                    }
                    for row in predictions
                ],
            }
        )
    return rows


def format_summary(comparison: Comparison) -> str:
    """The conclusions and the table in Markdown, for a README or a pull request."""
    first, *others = map(escape, draw_conclusions(comparison))
    lines = [f"**{first}**", "", *(f"- {conclusion}" for conclusion in others), ""]
    lines += format_table(table.build_header(comparison), table.build_sections(comparison))
    lines += ["", *format_table(table.build_gold_header(comparison), table.build_gold_sections(comparison))]
    if comparison.preference:
        lines += ["", "| held-out preference pairs | |", "|---|--:|"]
        lines += [f"| {title} | {value} |" for title, value in table.format_preference(comparison)]
    lines += ["", f"Rates in %, differences in points, [95 % interval]; {comparison.prompts} prompts.", ""]
    return "\n".join(lines)


def format_table(header: list[str], sections: list[table.Section]) -> list[str]:
    lines = [f"| {' | '.join(map(escape_cell, header))} |", "|---" + "|--:" * (len(header) - 1) + "|"]
    for section in sections:
        lines.append(f"| **{escape_cell(section.title)}** {'| ' * (len(header) - 1)}|")
        lines += [f"| {' | '.join(map(escape_cell, row))} |" for row in section.rows]
    return lines
