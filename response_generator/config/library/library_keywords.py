"""The keywords of TRL's, PEFT's and transformers' configurations and of from_pretrained: JSON types, default, meaning.

Arguments are checked before torch is imported, so the keywords cannot be read from the libraries at that time. They are
stored in library_keywords.json, which `library_reader` writes; a test compares that file with the pinned libraries.
`training_keys` and `model_keys` say what this program adds to them.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from response_generator.config.library.key_rule import KeyRule
from response_generator.config.library.model_keys import MODEL_RULES, TRANSFORMERS_KEYWORDS
from response_generator.config.library.training_keys import TRAINING_RULES

FILE = Path(__file__).with_suffix(".json")
# The parts of the file that make up a section; a later part has its keywords in place of those of an earlier one.
PARTS = {
    "dpo": ("training_arguments", "trl", "dpo"),
    "sft": ("training_arguments", "trl", "sft"),
    "trainer": ("training_arguments",),
    "lora": ("lora",),
    "generation": ("generation",),
    "from_pretrained": ("unsloth", "llama_config"),
}
RULES: dict[str, dict[str, KeyRule]] = TRAINING_RULES | MODEL_RULES
REFUSALS = {key: rule.refusal for rules in RULES.values() for key, rule in rules.items() if rule.refusal}
JSON_TYPE_OF_PYTHON_TYPE = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "list",
    tuple: "list",
    dict: "object",
    type(None): "null",
}

Keyword = dict[str, Any]  # "types", "meaning" and, where the library has one, "default"


@cache
def read_file() -> dict[str, dict[str, Keyword]]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@cache
def describe_keywords(section: str) -> dict[str, Keyword]:
    """`{keyword: {"types": JSON types, "meaning": text, "default": value}}` of a section whose keys are a library's.

    "default" is absent where the library has none, or decides at run time.
    """
    keywords: dict[str, Keyword] = {}
    for part in PARTS[section]:
        keywords |= read_file()[part]
    for key, rule in RULES[section].items():
        if rule.refusal is not None:
            keywords.pop(key, None)
            continue
        added = {"types": rule.types, "meaning": rule.meaning, "default": rule.default}
        keywords[key] = keywords.get(key, {}) | {name: value for name, value in added.items() if value is not ...}
    return dict(sorted(keywords.items()))


def list_own_keywords(section: str) -> set[str]:
    """The keywords that this program adds to those of the libraries."""
    of_libraries = set().union(TRANSFORMERS_KEYWORDS, *(read_file()[part] for part in PARTS[section]))
    return set(describe_keywords(section)) - of_libraries


def accepted_json_types(section: str) -> dict[str, list[str]]:
    """Returns `{keyword: JSON types}` of a section. An empty list of types means that any type is accepted."""
    return {key: keyword["types"].split() for key, keyword in describe_keywords(section).items()}


def get_rule(section: str, key: str) -> KeyRule:
    return RULES[section].get(key, KeyRule())


def read_default(section: str, key: str) -> Any:
    """The default of a keyword, as the pinned library has it."""
    return describe_keywords(section)[key]["default"]


def unsloth_only_keywords() -> set[str]:
    """Returns the keywords of from_pretrained that unsloth accepts and transformers does not."""
    return set(describe_keywords("from_pretrained")) - set(read_file()["llama_config"]) - TRANSFORMERS_KEYWORDS


def json_type_of(value) -> str:
    """Returns the JSON type of a value; integers are "integer", other numbers "number"."""
    return JSON_TYPE_OF_PYTHON_TYPE[type(value)]
