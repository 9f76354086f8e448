"""What people look at: report.html, summary.md and the pictures. Needs rows and figures, no model."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from response_generator.constants import EMOTIONS
from response_generator.evaluation import plots, table
from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.conclusions import draw_conclusions
from response_generator.runs import atomic_files

PAGE = Path(__file__).with_name("page")
PICTURE_WORDS = {
    "emotions": "how often each model follows each target emotion",
    "confusion": "target emotion against the emotion that the classifier reads, for every model and for the references",
    "quality": "complete replies, replies stopped by the token limit, and the labels of the gibberish detector",
    "lengths": "lengths of the replies and of the references, in tokens",
    "margins": "reward margins of the held-out preference pairs",
}


def write(comparison: Comparison, settings: dict[str, str], folder: Path) -> list[Path]:
    """Writes report.html, summary.md and the PNG files; returns the latter.

    Args:
        settings: `{key: value}`, shown as they are.
    """
    vectors = plots.draw(comparison, folder)
    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.jinja").render(
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=(PAGE / "report.js").read_text(encoding="utf-8"),
        claims=draw_conclusions(comparison),
        header=table.header(comparison),
        sections=table.sections(comparison),
        preference=table.preference_lines(comparison),
        pictures={name: (PICTURE_WORDS[name], data_address(vector)) for name, vector in vectors.items()},
        settings=settings,
        emotions=EMOTIONS,
        models=comparison.models,
        prompts=comparison.prompts,
        samples=comparison.samples,
        replies=browser_rows(comparison),
    )
    # A model may write a lone surrogate, which no file in UTF-8 can hold.
    atomic_files.atomic_write(folder / "report.html", page.encode("utf-8", "replace"))
    atomic_files.atomic_write(folder / "summary.md", summary(comparison).encode("utf-8"))
    return [folder / f"{name}.png" for name in vectors]


def data_address(vector: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(vector).decode("ascii")


def browser_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A row a prompt and sample, as the page's script reads it: the prompt, and every model's reply with its labels."""
    rows = []
    for answers in zip(*comparison.rows.values(), strict=True):
        asked = answers[0]
        rows.append(
            {
                "index": asked["index"],
                "sample": asked["sample"],
                "target": asked["target_emotion"],
                "history": [
                    {"role": turn["role"], "emotion": turn["content"]["emotion"], "text": turn["content"]["dialog"]}
                    for turn in asked["history"]
                ],
                "reference": {"text": asked["reference"], "emotion": asked["reference_emotion"]},
                "replies": [
                    {
                        "text": row["response"],
                        "emotion": row["predicted_emotion"],
                        "score": row["emotion_score"],
                        "target": row["target_probability"],
                        "gibberish": row["gibberish_label"],
                        "complete": row["complete"],
                        "limit": row["stopped_by_limit"],
                        "tokens": row["new_tokens"],
                    }
                    for row in answers
                ],
            }
        )
    return rows


def summary(comparison: Comparison) -> str:
    """The claims and the table in Markdown, for a README or a pull request."""
    header = [escaped(heading) for heading in table.header(comparison)]
    first, *others = draw_conclusions(comparison)
    lines = [f"**{first}**", "", *(f"- {claim}" for claim in others), ""]
    lines += [f"| {' | '.join(header)} |", "|---" + "|--:" * (len(header) - 1) + "|"]
    for section in table.sections(comparison):
        lines.append(f"| **{section.title}** {'| ' * (len(header) - 1)}|")
        lines += [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in section.rows]
    if comparison.preference:
        lines += ["", "| held-out preference pairs | |", "|---|--:|"]
        lines += [f"| {words} | {value} |" for words, value in table.preference_lines(comparison)]
    lines += ["", f"Rates in %, differences in points, [95 % interval]; {comparison.prompts} prompts.", ""]
    return "\n".join(lines)


def escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
