"""Writes report.html and the plots of preference data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from response_generator.data.datasets import Pair
from response_generator.labels import Labels
from response_generator.preferences.description_table import Rows
from response_generator.preferences.pair_browser import build_browser
from response_generator.preferences.plots import draw_plots
from response_generator.reporting.blocks import Paragraph, Pictures, Section, Table, list_settings
from response_generator.reporting.page import write_page
from response_generator.reporting.pictures import write_pictures


def write_report(
    title: str,
    pairs: list[Pair],
    rows: Rows,
    failed: list[dict[str, Any]],
    settings: dict[str, str],
    labels: Labels,
    folder: Path,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Writes report.html and the PNG files, and returns the PNG files.

    Args:
        title: of the page; it names the run, and the adapter or the data.
        rows: the table of the description.
        failed: prompts without a pair, with the reasons.
        settings: `{key: value}` of the args.
        notes: sentences on how the replies were written.
    """
    pictures = write_pictures(draw_plots(pairs), folder)
    blocks = [
        Table({"": rows}),
        *map(Paragraph, notes),
        Section("Plots", [Pictures(pictures)], "on phones"),
        build_browser(pairs, labels),
        list_settings("Settings", settings),
    ]
    if failed:
        blocks.insert(-1, list_failed(failed))
    write_page(folder / "report.html", title, blocks)
    return [folder / f"{picture.name}.png" for picture in pictures]


def list_failed(failed: list[dict[str, Any]]) -> Section:
    has_targets = failed[0]["target_emotion"] is not None
    rows = []
    for row in failed:
        filters = ", ".join(f"{name} {count}" for name, count in row["failures"].items())
        target = [row["target_emotion"]] if has_targets else []
        rows.append([f"{row['index']}: {row['last_turn']}", *target, row["attempts"], filters])
    headings = ["prompt", *(["target"] if has_targets else []), "attempts", "failed filters"]
    table = Table({"": rows}, headings, style="blocks")
    return Section(f"Prompts without a pair ({len(failed)})", [table], "always")
