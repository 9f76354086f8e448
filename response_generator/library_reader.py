"""Writes library_keywords.json: the keywords that the pinned libraries accept, with types, defaults and meanings.

After changing a pinned version, write the file again. Importing this module imports unsloth's GPU code, so only a
process of its own may do it:

    python -m response_generator.library_reader
"""

import ast
import io
import json
import os
import re
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, fields
from enum import Enum
from inspect import Parameter, getmodule, getsource, signature
from itertools import pairwise
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

os.environ["UNSLOTH_ALLOW_CPU"] = "1"  # lets a machine without a GPU import unsloth's GPU code
import unsloth  # noqa: F401, I001  (must be imported before trl and transformers to patch them)
from peft import LoraConfig
from transformers import GenerationConfig, LlamaConfig, TrainingArguments
from trl import DPOConfig, SFTConfig
from unsloth import FastLanguageModel
from unsloth_zoo.cpu import FastCPUModel

from response_generator.config.library.library_keywords import FILE, JSON_TYPE_OF_PYTHON_TYPE, Keyword

JSON_TYPE_OF_DOCSTRING_WORD = {kind.__name__: json_type for kind, json_type in JSON_TYPE_OF_PYTHON_TYPE.items()} | {
    "None": "null",
    "optional": "null",
}
PLAIN_STRING = re.compile("r?[\"']")


def read_from_libraries() -> dict[str, dict[str, Keyword]]:
    """What library_keywords.json holds, read from the installed libraries."""
    common, dpo, sft = map(read_dataclass, (TrainingArguments, DPOConfig, SFTConfig))
    trl = {key: keyword for key, keyword in dpo.items() if sft.get(key) == keyword != common.get(key)}
    meanings = {name: text for name, _, text in list_documented_arguments(LlamaConfig.__doc__, indent=4)}
    parts = {
        "training_arguments": common,
        "trl": trl,
        "dpo": {key: keyword for key, keyword in dpo.items() if keyword != (common | trl).get(key)},
        "sft": {key: keyword for key, keyword in sft.items() if keyword != (common | trl).get(key)},
        "lora": read_dataclass(LoraConfig),
        "generation": read_generation(),
        "unsloth": read_unsloth(),
        "llama_config": {
            name: describe_keyword(json_types_of_hint(hint), meanings[name])
            for name, hint in LlamaConfig.__annotations__.items()
        },
    }
    return {part: dict(sorted(keywords.items())) for part, keywords in parts.items()}


def describe_keyword(types: list[str], meaning: str, default: Any = MISSING) -> Keyword:
    keyword = {"types": " ".join(types), "meaning": remove_markup(" ".join(meaning.split()))}
    default = default.value if isinstance(default, Enum) else default
    if isinstance(default, (set, frozenset, tuple)):
        default = sorted(default)
    return keyword | ({"default": default} if type(default) in JSON_TYPE_OF_PYTHON_TYPE else {})


def remove_markup(text: str) -> str:
    """Removes HTML tags, emphasis, roles of reStructuredText, links that lead nowhere outside the library's own
    documentation, and the second % of argparse. What is in backticks stays, but for `~` and the path that it hides."""
    text = re.sub(r"\[(`[^`]*`)\](?!\()|\[([^\]]*)\]\((?!http)[^)]*\)", lambda match: match[1] or match[2], text)
    text = re.sub(r":\w+:(?=`)", "", text)
    text = re.sub(r"`~(?:\w+\.)*(\w+)`", r"`\1`", text)
    outside_code = r"(`[^`]*`)|</?\w+(?: [^>]*)?>|(?<![\w*])\*{1,2}([\w-]+)\*{1,2}(?![\w*])"
    text = re.sub(outside_code, lambda match: match[1] or match[2] or "", text)
    return text.replace("%%", "%")


def read_dataclass(config: type) -> dict[str, Keyword]:
    """The fields of a configuration, with the help text that the library gives to each."""
    hints, joins = get_type_hints(config), find_joins(config)
    keywords = {}
    for field in fields(config):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        meaning = field.metadata["help"]
        for first, second in joins:
            meaning = meaning.replace(first + second, f"{first} {second}")
        keywords[field.name] = describe_keyword(json_types_of_hint(hints[field.name]), meaning, default)
    return keywords


def find_joins(config: type) -> list[tuple[str, str]]:
    """Every two strings in the sources of a configuration that Python joins, where the library forgot the space."""
    joins = []
    for module in {getmodule(parent) for parent in config.__mro__ if parent is not object}:
        tokens = tokenize.generate_tokens(io.StringIO(getsource(module)).readline)
        for first, second in pairwise(token for token in tokens if token.type not in (tokenize.NL, tokenize.COMMENT)):
            if PLAIN_STRING.match(first.string) and PLAIN_STRING.match(second.string):
                before, after = ast.literal_eval(first.string), ast.literal_eval(second.string)
                if before and after and not before[-1].isspace() and not after[0].isspace():
                    joins.append((before, after))
    return joins


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


def read_unsloth() -> dict[str, Keyword]:
    """The keywords of from_pretrained of both of unsloth's loaders, which it does not document."""
    return {
        name: describe_keyword(json_types_of_default(parameter.default), "", parameter.default)
        for loader in (FastCPUModel, FastLanguageModel)
        for name, parameter in signature(loader.from_pretrained).parameters.items()
        if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    }


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
