"""docs/configuration.md must be what the generator writes, with every key and a description of each."""

import pytest

from response_generator.config import documentation, library_keywords

SCHEMAS = [arguments.model_json_schema() for arguments in documentation.PROGRAMS.values()]
SECTIONS = [section for schema in SCHEMAS for section in (schema, *schema["$defs"].values())]


def test_the_page_is_up_to_date():
    page = documentation.FILE.read_text(encoding="utf-8")
    assert page == documentation.build_page(), f"run {documentation.COMMAND}"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["title"])
def test_every_field_has_a_description_and_a_row(section):
    page = documentation.build_page()
    for key, field in section["properties"].items():
        assert field.get("description"), key
        assert f"| `{key}` |" in page


@pytest.mark.parametrize("section", documentation.LIBRARY_CLASSES)
def test_every_key_of_a_library_has_a_row(section):
    page = documentation.build_page().partition(f"## `{section}`\n")[2].partition("\n## ")[0]
    for key in library_keywords.accepted_json_types(section):
        assert f"| `{key}` |" in page


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1000}, "integer (>= 1, <= 1,000)"),
        ({"type": "number", "exclusiveMinimum": 0}, "number (> 0)"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"enum": ["a", "b"], "type": "string"}, '`"a"` or `"b"`'),
        ({"anyOf": [{"$ref": "#/$defs/DatasetArguments"}, {"type": "null"}]}, "object or null"),
        ({"items": {"type": "string"}, "type": "array"}, "list"),
    ],
)
def test_json_types_and_bounds(field, expected):
    assert documentation.describe_allowed(field) == expected


def test_bounds_of_library_numbers():
    rows = documentation.build_library_section("dpo").splitlines()
    assert "| `adam_beta1` | number | >= 0, < 1 |" in rows
    assert "| `max_length` | integer or null | >= 2, <= 2^31 - 1 |" in rows
