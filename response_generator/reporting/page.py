"""Writes a report as one HTML file without links, which opens from disk without a network."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from response_generator.runs import atomic_files

STYLE_FILE, BROWSER_FILE = (Path(__file__).with_name(name) for name in ("report.css", "browser.js"))


def write_page(file: Path, templates: Path, **values: Any) -> None:
    """Renders report.html.jinja of the folder `templates` with its report.js, the style of all reports, and the script
    that they share.

    Args:
        values: variables of the template.
    """
    environment = Environment(loader=FileSystemLoader(templates), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.jinja").render(
        style=STYLE_FILE.read_text(encoding="utf-8"),
        script="\n".join(file.read_text(encoding="utf-8") for file in (BROWSER_FILE, templates / "report.js")),
        **values,
    )
    # A model may generate a lone surrogate, which cannot be encoded in UTF-8.
    atomic_files.atomic_write(file, page.encode("utf-8", "replace"))


def to_data_url(vector: bytes) -> str:
    """The address of an SVG picture for an `img` element."""
    return "data:image/svg+xml;base64," + base64.b64encode(vector).decode("ascii")
