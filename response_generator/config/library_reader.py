"""Writes library_keywords.json: the keywords that the pinned libraries accept, with types, defaults and meanings.

After changing a pinned version, write the file again. Importing this module imports unsloth's GPU code, so only a
process of its own may do it:

    python -m response_generator.config.library_reader
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from enum import Enum
from inspect import Parameter, signature
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

os.environ["UNSLOTH_ALLOW_CPU"] = "1"  # lets a machine without a GPU import unsloth's GPU code
import unsloth  # noqa: F401  (first, because it patches transformers and TRL)
from peft import LoraConfig
from transformers import EarlyStoppingCallback, GenerationConfig, LlamaConfig, TrainingArguments
from trl import DPOConfig, SFTConfig
from unsloth import FastLanguageModel
from unsloth_zoo.cpu import FastCPUModel

from response_generator.config.excluded_keywords import EXCLUDED_KEYWORDS
from response_generator.config.library_keywords import (
    AUTO,
    EARLY_STOPPING,
    FILE,
    JSON_TYPE_OF_PYTHON_TYPE,
    SHARED_PREFIX,
    TRAINING_DEFAULTS,
)
from response_generator.config.loading_keywords import MEANINGS, TRANSFORMERS_FROM_PRETRAINED

JSON_TYPE_OF_DOCSTRING_WORD = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "list": "list",
    "tuple": "list",
    "dict": "object",
    "None": "null",
    "optional": "null",
}

COMMON_TO_BOTH = {"load_in_4bit", "dtype", "device_map", "trust_remote_code"}


Keyword = dict[str, Any]  # "types", "meaning" and, where the library has one, "default"


def read_from_libraries() -> dict[str, Any]:
    """Reads the keywords from the installed libraries."""
    early_stopping = read_early_stopping(EarlyStoppingCallback)
    sections = {
        "dpo": read_dataclass(DPOConfig) | early_stopping | {SHARED_PREFIX: describe_shared_prefix()},
        "sft": read_dataclass(SFTConfig) | early_stopping,
        "trainer": read_dataclass(TrainingArguments),
        "lora": read_dataclass(LoraConfig),
        "generation": read_generation(),
    }
    for section in ("dpo", "sft"):
        for key, value in TRAINING_DEFAULTS.items():
            sections[section][key]["default"] = value
    sections["from_pretrained"], unsloth_only = read_loaders()
    accepted = {
        section: {name: keywords[name] for name in sorted(set(keywords) - EXCLUDED_KEYWORDS[section])}
        for section, keywords in sections.items()
    }
    return accepted | {"unsloth_only": sorted(unsloth_only & set(accepted["from_pretrained"]))}


def describe_keyword(types: list[str], meaning: str, default: Any = MISSING) -> Keyword:
    keyword = {"types": " ".join(types), "meaning": remove_markup(" ".join(meaning.split()))}
    default = default.value if isinstance(default, Enum) else default
    if isinstance(default, (set, frozenset, tuple)):
        default = sorted(default)
    return keyword | ({"default": default} if type(default) in JSON_TYPE_OF_PYTHON_TYPE else {})


def remove_markup(text: str) -> str:
    """Removes HTML tags, and links that lead nowhere outside the library's own documentation."""
    text = re.sub(r"\[(`[^`]*`)\](?!\()|\[([^\]]*)\]\((?!http)[^)]*\)", lambda match: match[1] or match[2], text)
    return re.sub(r"</?\w+( [^>]*)?>", "", text)


def read_dataclass(config: type) -> dict[str, Keyword]:
    """The fields of a configuration, with the help text that the library gives to each."""
    hints = get_type_hints(config)
    keywords = {}
    for field in fields(config):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        keywords[field.name] = describe_keyword(json_types_of_hint(hints[field.name]), field.metadata["help"], default)
    return keywords


def read_early_stopping(callback: type) -> dict[str, Keyword]:
    found = {name: (types, text) for name, types, text in list_documented_arguments(callback.__doc__, indent=8)}
    patience, threshold = EARLY_STOPPING
    return {
        patience: describe_keyword(["integer", "null"], found[patience][1], None),
        threshold: describe_keyword(["number"], found[threshold][1], 0.0),
    }


def describe_shared_prefix() -> Keyword:
    meaning = (
        "Compute the prompt of a pair once for both replies, in one row. With 'auto' a few batches are timed before "
        "the first step, and the faster layout is taken. Of this program, not of TRL; the loss is the same."
    )
    return describe_keyword(["boolean", "string"], meaning, AUTO)


def read_generation() -> dict[str, Keyword]:
    documented = {
        name: (types, text) for name, types, text in list_documented_arguments(GenerationConfig.__doc__, indent=8)
    }
    config = GenerationConfig()
    defaults = vars(config) | GenerationConfig._get_default_generation_params()
    keywords = {}
    for name in [name for name in vars(config) if not name.startswith("_")]:
        types, meaning = documented.get(name, ([], "Not documented by transformers."))
        keywords[name] = describe_keyword(types, meaning, defaults[name])
    return keywords


def read_loaders() -> tuple[dict[str, Keyword], set[str]]:
    """The keywords of both loaders' from_pretrained, and those of them that only unsloth accepts."""
    meanings = {name: text for name, _, text in list_documented_arguments(LlamaConfig.__doc__, indent=4)} | MEANINGS
    types = dict(TRANSFORMERS_FROM_PRETRAINED)
    for name, hint in LlamaConfig.__annotations__.items():
        types[name] = json_types_of_hint(hint)
    known_to_transformers = set(types) | COMMON_TO_BOTH
    defaults = {}
    for loader in (FastCPUModel, FastLanguageModel):
        for name, parameter in signature(loader.from_pretrained).parameters.items():
            if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                continue
            types.setdefault(name, json_types_of_default(parameter.default))
            defaults[name] = parameter.default  # of FastLanguageModel, which both have
    types["use_gradient_checkpointing"] = ["boolean", "string"]
    not_accepted = EXCLUDED_KEYWORDS["from_pretrained"]
    keywords = {
        name: describe_keyword(types[name], meanings[name], defaults.get(name, MISSING))
        for name in set(types) - not_accepted
    }
    return keywords, set(keywords) - known_to_transformers


def list_documented_arguments(docstring: str, indent: int) -> Iterator[tuple[str, list[str], str]]:
    """Yields name, JSON types and description of each argument in a docstring of transformers."""
    pattern = rf"^ {{{indent}}}(\w+):? ?\(([^\n]*)\):?(.*(?:\n {{{indent + 4}}}.*|\n)*)"
    for name, types, text in re.findall(pattern, docstring, re.MULTILINE):
        yield name, json_types_of_docstring(types), text.partition("\n\n")[0]


def json_types_of_hint(hint) -> list[str]:
    """Returns the JSON types that a type annotation accepts: "string" for an enum, [] (any) for unknown types."""
    if get_origin(hint) in (Union, UnionType):
        return sorted({json_type for member in get_args(hint) for json_type in json_types_of_hint(member)})
    if get_origin(hint) is Literal:
        return sorted({JSON_TYPE_OF_PYTHON_TYPE[type(value)] for value in get_args(hint)})
    base = get_origin(hint) or hint
    if isinstance(base, type) and issubclass(base, Enum):
        return ["string"]
    return [JSON_TYPE_OF_PYTHON_TYPE[base]] if base in JSON_TYPE_OF_PYTHON_TYPE else []


def json_types_of_default(default) -> list[str]:
    return [JSON_TYPE_OF_PYTHON_TYPE[type(default)]] if type(default) in (bool, int, float, str) else []


def json_types_of_docstring(text: str) -> list[str]:
    """Returns the JSON types named in a docstring such as "`int`, *optional*"; [] (any) for unknown words."""
    words = re.findall(r"\w+", re.sub(r"\[[^`]*", "", text.split("default")[0]))
    if not words or any(word not in JSON_TYPE_OF_DOCSTRING_WORD and word != "or" for word in words):
        return []
    return sorted({JSON_TYPE_OF_DOCSTRING_WORD[word] for word in words if word != "or"} | {"null"})


if __name__ == "__main__":
    FILE.write_text(json.dumps(read_from_libraries(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {FILE}")
