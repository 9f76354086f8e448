"""Tables in Markdown, for cards of adapters and data sets."""

from typing import Any


def format_table(rows: dict[str, Any]) -> str:
    return "| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in rows.items())
