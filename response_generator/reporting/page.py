"""Writes a report as one HTML file without links, which opens from disk without a network."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from response_generator.runs import atomic_files

FOLDER = Path(__file__).parent  # of the style, the script and the macros that all reports share
STYLE_FILE, BROWSER_FILE = FOLDER / "report.css", FOLDER / "browser.js"


@dataclass(frozen=True)
class Card:
    """A key figure at the top of a page: `value` in large type, a note, and `(name, value)` rows below."""

    title: str
    value: str = ""
    note: str = ""
    rows: Sequence[tuple[str, str]] = ()


def write_page(file: Path, templates: Path, **values: Any) -> None:
    """Renders report.html.jinja of the folder `templates` with the style of all reports, the script that they share,
    and report.js of the folder if there is one.

    Args:
        values: variables of the template.
    """
    environment = Environment(
        loader=FileSystemLoader([templates, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(
        style=STYLE_FILE.read_text(encoding="utf-8"),
        script="\n".join(path.read_text(encoding="utf-8") for path in (BROWSER_FILE, *templates.glob("*.js"))),
        **values,
    )
    # A model may generate a lone surrogate, which cannot be encoded in UTF-8.
    atomic_files.atomic_write(file, page.encode("utf-8", "replace"))


def to_data_url(vector: bytes) -> str:
    """The address of an SVG picture for an `img` element."""
    return "data:image/svg+xml;base64," + base64.b64encode(vector).decode("ascii")
