"""What all plots share: colors, and writing them as PNG files and as SVG for a page."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure as Picture

from response_generator.runs import atomic_files

matplotlib.rcParams["svg.hashsalt"] = "report"  # the same numbers give the same bytes
COLORS = ("#7a8ca3", "#d9622b", "#2b8a6e", "#8a4fbf", "#b3892b", "#3b6fd4")
DARK_COLOR = "#333333"
WIDTH = 10  # inches; a page shows all pictures equally large, so their text has to be drawn in one scale


def write_pictures(pictures: dict[str, Picture], folder: Path) -> dict[str, bytes]:
    """Writes each picture as NAME.png, and returns `{name: SVG}`."""
    vectors = {}
    for name, picture in pictures.items():
        atomic_files.atomic_write(folder / f"{name}.png", render(picture, "png", {"Software": None}))
        vectors[name] = render(picture, "svg", {"Date": None})
    return vectors


def render(picture: Picture, form: str, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    picture.savefig(content, format=form, dpi=110, metadata=metadata)
    return content.getvalue()


def escape_mathtext(name: str) -> str:
    """A folder's name for a legend: matplotlib reads text between $ as a formula, and hides names like "_run"."""
    name = name.replace("$", r"\$")
    return f"./{name}" if name.startswith("_") else name
