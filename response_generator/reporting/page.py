"""Writes a report as one HTML file without links, which opens from disk without a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from response_generator.reporting.blocks import Block, Browser
from response_generator.runs import atomic_files

FOLDER = Path(__file__).parent
STYLE_FILE, BROWSER_FILE = FOLDER / "report.css", FOLDER / "browser.js"


def write_page(file: Path, title: str, blocks: Sequence[Block]) -> None:
    fill_template(
        FOLDER / "report.html.jinja",
        file,
        title=title,
        blocks=blocks,
        style=STYLE_FILE.read_text(encoding="utf-8"),
        browser=next((block for block in blocks if isinstance(block, Browser)), None),
        script=BROWSER_FILE.read_text(encoding="utf-8"),
    )


def fill_template(template: Path, file: Path, **values: Any) -> None:
    spaces = {"trim_blocks": True, "lstrip_blocks": True}
    loader = FileSystemLoader(template.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **spaces)
    page = environment.get_template(template.name).render(values)
    # A model may generate a lone surrogate, which cannot be encoded in UTF-8.
    atomic_files.atomic_write(file, page.encode("utf-8", "replace"))
