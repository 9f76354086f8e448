"""docs/configuration.md must be what the generator writes, with every key and a description of each."""

import re

import pytest

from response_generator.config import documentation, json_schema
from response_generator.config.documentation import describe_allowed, shorten
from response_generator.config.library import library_keywords
from response_generator.config.programs import PROGRAMS
from response_generator.config.validation import KEYWORD_SECTIONS

SCHEMAS = [json_schema.describe_arguments(program.arguments) for program in PROGRAMS]
SECTIONS = [section for schema in SCHEMAS for section in (schema, *schema["$defs"].values())]


def read_section(page: str, section: str) -> str:
    return page.partition(f"## `{section}`\n")[2].partition("\n## ")[0]


def test_the_page_is_up_to_date():
    page = documentation.FILE.read_text(encoding="utf-8")
    assert page == documentation.build_page(), f"run {documentation.COMMAND}"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["title"])
def test_every_field_has_a_description_and_those_of_this_program_a_row(section):
    page = documentation.build_page()
    for key, field in section["properties"].items():
        assert field.get("description"), key
        assert f"| `{key}` |" in page or section["title"] in KEYWORD_SECTIONS


def test_the_most_important_keys_of_the_libraries_have_a_row_and_the_others_are_counted():
    assert len(set().union(*documentation.MAIN_LIBRARY_KEYS.values())) == 20
    own = {section: library_keywords.list_own_keywords(section) for section in KEYWORD_SECTIONS}
    early_stopping = {"early_stopping_patience", "early_stopping_threshold"}
    assert own == dict.fromkeys(own, set()) | {"dpo": {"shared_prefix", *early_stopping}, "sft": early_stopping}
    page = documentation.build_page()
    for section, main in documentation.MAIN_LIBRARY_KEYS.items():
        keys = documentation.choose_library_keys(section)
        assert set(keys) == main | own[section]
        rows = re.findall(r"^\| `(\w+)` \|", read_section(page, section), re.MULTILINE)
        command = f"python -m response_generator.explain {section}"
        (others,) = re.findall(rf"^(\d+) more keys: `{command}`", page, re.MULTILINE)
        assert rows == keys and len(rows) + int(others) == len(library_keywords.describe_keywords(section))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1000}, "integer (>= 1, <= 1,000)"),
        ({"type": "number", "exclusiveMinimum": 0}, "number (> 0)"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, "string or null"),
        ({"enum": ["a", "b"], "type": "string"}, '`"a"` or `"b"`'),
        ({"anyOf": [{"$ref": "#/$defs/DatasetArguments"}, {"type": "null"}]}, "object or null"),
        ({"items": {"type": "string"}, "type": "array"}, "list"),
        ({"items": {"enum": ["a", "b"]}, "type": "array"}, 'list of `"a"`, `"b"`'),
        ({"const": False}, "`false`"),
        ({}, "any"),
    ],
)
def test_json_types_and_bounds(field, expected):
    assert describe_allowed(field) == expected


def test_rows_of_a_library():
    rows = documentation.build_key_table(json_schema.describe_library_section("dpo")).splitlines()
    row = next(row for row in rows if row.startswith("| `adam_beta1` |"))
    assert row.startswith("| `adam_beta1` | number (>= 0, < 1) | `0.9` | ")
    row = next(row for row in rows if row.startswith("| `max_length` |"))
    assert row.startswith("| `max_length` | integer (>= 2, <= 2^31 - 1) or null | `1024` | Maximum length")
    row = next(row for row in rows if row.startswith("| `padding_free` |"))
    assert "| `false` | `false` |" in row and "Only false: TRL 1.15 has disabled it." in row


def test_texts_of_libraries_have_their_spaces_and_no_markup_but_that_of_markdown():
    meanings = [keyword["meaning"] for part in library_keywords.read_file().values() for keyword in part.values()]
    assert len(meanings) > 300
    for meaning in meanings:
        text = re.sub("`[^`]*`", "`code`", meaning)
        assert not re.search(r"[a-z)]\.[A-Z][a-z]|:\w+:`|%%|</?(a|b|i|p|tip)\b|\*[\w-]+\*", text), meaning
        assert "`~" not in meaning
    lora, dpo = map(library_keywords.describe_keywords, ("lora", "dpo"))
    assert "introduces a bigger overhead than pure LoRA" in lora["use_dora"]["meaning"]
    assert "torch.<device>.empty_cache()" in dpo["torch_empty_cache_steps"]["meaning"]


def test_a_long_meaning_is_cut_after_a_sentence():
    first, second, third = "One sentence.", f"A second one {'x' * 200}.", f"A third one {'x' * 200}."
    assert shorten(f"{first} {second} {third}") == f"{first} {second}"
    assert shorten(f"{second} {third}") == second
    assert shorten("e.g. this is one sentence.") == "e.g. this is one sentence."
