"""Writes report.html and the plots of preference data."""

from pathlib import Path
from typing import Any

from response_generator.data.datasets import Pair
from response_generator.data.pair_text import find_target_emotion, get_reply_text
from response_generator.preferences import plots
from response_generator.preferences.description_table import Rows
from response_generator.reporting.page import to_data_url, write_page
from response_generator.reporting.pictures import write_pictures

PAGE_FOLDER = Path(__file__).with_name("page")
PLOT_DESCRIPTIONS = {
    "margins": "histogram of chosen_score - rejected_score",
    "scores": "scores of the chosen and of the rejected replies",
    "lengths": "lengths of the chosen and of the rejected replies, in characters",
}
MAX_BROWSER_PAIRS = 5000  # keeps the page under some 5 MB


def write_report(
    title: str, pairs: list[Pair], rows: Rows, failed: list[dict[str, Any]], settings: dict[str, str], folder: Path
) -> list[Path]:
    """Writes report.html and the PNG files, and returns the PNG files.

    Args:
        title: of the page; it names the run, and the adapter or the data.
        rows: the table of the description.
        failed: prompts without a pair, with the reasons.
        settings: `{key: value}` of the args.
    """
    vectors = write_pictures(plots.draw_pictures(pairs), folder)
    write_page(
        folder / "report.html",
        PAGE_FOLDER,
        title=title,
        rows=rows,
        pictures=[(name, PLOT_DESCRIPTIONS[name], to_data_url(vector)) for name, vector in vectors.items()],
        failed=failed,
        settings=settings,
        pairs=[to_browser_row(pair) for pair in pairs[:MAX_BROWSER_PAIRS]],
        pair_count=len(pairs),
        emotions=sorted({find_target_emotion(pair) or "" for pair in pairs} - {""}),
    )
    return [folder / f"{name}.png" for name in vectors]


def to_browser_row(pair: Pair) -> dict[str, Any]:
    """A pair for report.js."""
    labels = pair.chosen_labels
    return {
        "index": pair.index,
        "target": find_target_emotion(pair),
        "history": list_turns(pair),
        "chosen": get_reply_text(pair.chosen),
        "rejected": get_reply_text(pair.rejected),
        "chosen_score": pair.chosen_score,
        "rejected_score": pair.rejected_score,
        "labels": f"{labels.emotion}, {labels.gibberish_label}" if labels else None,
    }


def list_turns(pair: Pair) -> list[dict[str, str | None]]:
    if isinstance(pair.prompt, str):
        return [{"role": "prompt", "emotion": None, "text": pair.prompt}]
    return [
        {
            "role": message["role"],
            "emotion": message["content"]["emotion"] if isinstance(message["content"], dict) else None,
            "text": get_reply_text(message["content"]),
        }
        for message in pair.prompt
    ]
