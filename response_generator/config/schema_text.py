"""What a JSON Schema says of one key, as text: its types and range, its default, and its section."""

import json
import re

from response_generator.config.json_schema import NULL, Schema
from response_generator.config.ranges import MAX_COUNT, MAX_SEED

MAX_MEANING_CHARACTERS = 300


def describe_allowed(field: Schema) -> str:
    """The allowed JSON types and values of one key, for example "integer (>= 1) or null"."""
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        return " or ".join(describe_allowed(option) for option in sorted(options, key=lambda option: option == NULL))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "$ref" in field:
        return "object"
    if "type" not in field:
        return "any"
    if field["type"] == "array":
        values = field.get("items", {})
        listed = ", ".join(f"`{json.dumps(value)}`" for value in values.get("enum", ()))
        return f"list of {listed}" if listed else f"list{describe_bounds(values)}"
    return field["type"] + describe_bounds(field)


def describe_bounds(field: Schema) -> str:
    bounds = [
        f"{sign} {format_number(field[name])}"
        for name, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", ">="),
            ("exclusiveMaximum", "<"),
            ("maximum", "<="),
        )
        if name in field
    ]
    return f" ({', '.join(bounds)})" if bounds else ""


def format_number(number: float) -> str:
    powers = {MAX_COUNT: "2^31 - 1", MAX_SEED: "2^32 - 1"}
    return powers.get(number) or (f"{number:,.0f}" if number == int(number) else f"{number:g}")


def describe_default(field: Schema, is_required: bool) -> str:
    if is_required:
        return "required"
    if "default" not in field:
        return "the model's or library's own"
    if isinstance(field["default"], dict) and field["default"]:
        return "see the section"
    return f"`{json.dumps(field['default'])}`"


def find_section_name(field: Schema) -> str | None:
    """The name, in `$defs`, of the section that a key holds; None when it holds a plain value."""
    references = [option["$ref"] for option in [field, *field.get("anyOf", [])] if "$ref" in option]
    return references[0].rpartition("/")[2] if references else None


def shorten(meaning: str) -> str:
    """The first sentences of a description, at most MAX_MEANING_CHARACTERS if the first one is not longer."""
    first, *others = re.split(r"(?<=[a-z0-9)`]\.) (?=[A-Z])", meaning)
    for sentence in others:
        if len(first) + len(sentence) > MAX_MEANING_CHARACTERS:
            break
        first += f" {sentence}"
    return first
