"""Text of data, replies and names in Markdown: it is shown as it is, and changes nothing around it."""

import re
from typing import Any

from response_generator.config.sources import strip_folders_in, strip_local_folders
from response_generator.runs.terminal import to_one_line

# What begins or ends code, emphasis, a link or HTML. An underscore inside of a word does not.
MARKUP = re.compile(r"[\\`*~]|(?<![^\W_])_|_(?![^\W_])|(?<=\])[(\[]")
HTML = str.maketrans({"&": "&amp;", "<": "&lt;"})


class Markdown(str):
    """Text that is Markdown already."""


def escape(text: str) -> Markdown:
    """Makes one line of plain text."""
    return Markdown(MARKUP.sub(r"\\\g<0>", to_one_line(text)).translate(HTML))


def escape_cell(text: str) -> str:
    """Plain text, or Markdown, in a cell of a table."""
    return (text if isinstance(text, Markdown) else escape(text)).replace("|", "\\|")


def format_code(text: str) -> Markdown:
    """A code span of the text, between more backticks in a row than it holds."""
    text = to_one_line(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{ticks}{space}{text}{space}{ticks}")


def format_source(name: str) -> Markdown:
    """The name of a model or data set; of a local path the last part."""
    return format_code(strip_local_folders(name))


def format_value(value: Any) -> Markdown:
    """A value of the args, without the folders of local paths."""
    return value if isinstance(value, Markdown) else escape(str(strip_folders_in(value)))


def format_table(rows: dict[str, Any]) -> str:
    """A table for the card of an adapter or a data set, which is published; see `format_value`."""
    return "| | |\n|---|---|\n" + "".join(
        f"| {escape_cell(key)} | {escape_cell(format_value(value))} |\n" for key, value in rows.items()
    )
