"""The keywords of TRL's, PEFT's and transformers' configurations and of from_pretrained: JSON types, default, meaning.

Arguments are checked before torch is imported, so the keywords cannot be read from the libraries at that time. They are
stored in library_keywords.json, which `library_reader` writes, and a test compares that file with the pinned libraries.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")

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
# Arguments of EarlyStoppingCallback (transformers), not fields of TRL's configurations; dpo and sft accept them too.
EARLY_STOPPING = ("early_stopping_patience", "early_stopping_threshold")
SHARED_PREFIX = "shared_prefix"  # a key of this program: both replies of a pair share their prompt
AUTO = "auto"  # its default: the faster layout
# Where this program's defaults differ from TRL's: every adapter parameter is used in each step, and the rows hold a
# column "length" that TRL does not know.
TRAINING_DEFAULTS = {"ddp_find_unused_parameters": False, "remove_unused_columns": False}


@cache
def read_keywords() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def describe_keywords(section: str) -> dict[str, dict[str, Any]]:
    """`{keyword: {"types": JSON types, "meaning": text, "default": value}}` of one of KEYWORD_SECTIONS.

    "default" is absent where the library has none, or decides at run time.
    """
    return read_keywords()[section]


def accepted_json_types(section: str) -> dict[str, list[str]]:
    """Returns `{keyword: JSON types}` of one of KEYWORD_SECTIONS.

    An empty list of types means that any type is accepted.
    """
    return {key: keyword["types"].split() for key, keyword in describe_keywords(section).items()}


def read_default(section: str, key: str) -> Any:
    """The default of a keyword, as the pinned library has it."""
    return describe_keywords(section)[key]["default"]


def unsloth_only_keywords() -> set[str]:
    """Returns the keywords of from_pretrained that unsloth accepts and transformers does not."""
    return set(read_keywords()["unsloth_only"])


def json_type_of(value) -> str:
    """Returns the JSON type of a value; integers are "integer", other numbers "number"."""
    return JSON_TYPE_OF_PYTHON_TYPE[type(value)]
