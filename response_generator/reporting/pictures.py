"""What all plots share: colors, and writing them as PNG files and as SVG for a page."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from response_generator.reporting.blocks import Picture
from response_generator.runs import atomic_files

matplotlib.rcParams["svg.hashsalt"] = "report"  # the same numbers give the same bytes
LEFT_OUT = {"png": "Software", "svg": "Date"}  # of the metadata, for the same reason
COLORS = ("#7a8ca3", "#d9622b", "#2b8a6e", "#8a4fbf", "#b3892b", "#3b6fd4")
DARK_COLOR = "#333333"
WIDTH = 10  # inches; a page shows all pictures equally large, so their text has to be drawn in one scale


class Plot(NamedTuple):
    """`name`: of its PNG file. `description`: what it shows, for those who do not see it."""

    name: str
    description: str
    figure: Figure


def write_pictures(plots: Sequence[Plot], folder: Path) -> list[Picture]:
    """Writes each plot as NAME.png, and returns all of them for a page."""
    pictures = []
    for name, description, figure in plots:
        atomic_files.atomic_write(folder / f"{name}.png", render(figure, "png"))
        pictures.append(Picture(name, description, render(figure, "svg")))
    return pictures


def render(figure: Figure, form: str) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=110, metadata={LEFT_OUT[form]: None})
    return content.getvalue()


def escape_mathtext(name: str) -> str:
    """A folder's name for a legend: matplotlib reads text between $ as a formula, and hides names like "_run"."""
    name = name.replace("$", r"\$")
    return f"./{name}" if name.startswith("_") else name
