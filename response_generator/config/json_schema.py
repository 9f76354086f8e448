"""JSON Schemas of the args files, for editors: every key with its meaning, type, range and default.

An args file names its schema with `"$schema": "schemas/dpo.json"`. After a change of the arguments or of a pinned
library, write the schemas again:

    python -m response_generator.config.json_schema
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from response_generator.config import conflicts, library_keywords, training_conflicts
from response_generator.config.programs import PROGRAMS
from response_generator.config.ranges import RANGES, Range
from response_generator.config.schema import Section
from response_generator.config.validation import KEYWORD_SECTIONS, SCHEMA_KEY

FOLDER = Path(__file__).parents[2] / "args" / "schemas"


def list_metrics(names: Sequence[str]) -> list[str]:
    return [*names, *(f"eval_{name}" for name in names)]


ALLOWED_VALUES = {
    "dpo": {
        "loss_type": training_conflicts.LOSS_TYPES,
        "f_divergence_type": training_conflicts.F_DIVERGENCES,
        library_keywords.SHARED_PREFIX: (library_keywords.AUTO,),
        "train_sampling_strategy": training_conflicts.SAMPLING_STRATEGIES,
        "truncation_mode": ("keep_start",),
        "metric_for_best_model": list_metrics(training_conflicts.HELD_OUT_METRICS),
    },
    "sft": {
        "loss_type": training_conflicts.SFT_LOSS_TYPES,
        "train_sampling_strategy": training_conflicts.SAMPLING_STRATEGIES,
        "truncation_mode": ("keep_start",),
        "metric_for_best_model": list_metrics(training_conflicts.SFT_HELD_OUT_METRICS),
    },
    "lora": {"bias": ("none",)},
    "from_pretrained": {"attn_implementation": conflicts.ATTENTION_IMPLEMENTATIONS, "dtype": conflicts.DTYPES},
}
OF_SEVERAL_TYPES = {
    "lora": {"init_lora_weights": {"enum": [True, "gaussian"]}},
    "from_pretrained": {
        "device_map": {
            "anyOf": [
                {"type": "string", "pattern": f"^({conflicts.DEVICE_MAP_PATTERN})$"},
                {"type": "object"},
                {"type": "integer"},
            ]
        }
    },
}

Schema = dict[str, Any]
NULL = {"type": "null"}
NUMBER_CONDITIONS = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}


def build_schema(arguments: type[Section]) -> Schema:
    """The JSON Schema of an args file. It holds every check of a single value, but not those of two keys together."""
    schema = describe_arguments(arguments)
    for section in (schema, *schema["$defs"].values()):
        for key, field in section["properties"].items():
            if key not in section.get("required", ()):
                section["properties"][key] = allow_null(field)
    text = {"type": "string", "description": "This schema, for editors; the program ignores the key."}
    schema["properties"][SCHEMA_KEY] = text
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | schema


def describe_arguments(arguments: type[Section]) -> Schema:
    """pydantic's schema of the arguments, with the sections whose keys are a library's own filled in."""
    schema = arguments.model_json_schema()
    sections = schema.setdefault("$defs", {})
    for section in (schema, *sections.values()):
        for field in section["properties"].values():
            field.pop("title", None)  # only the key in other letters
            field["description"] = " ".join(field["description"].split())
    for key in KEYWORD_SECTIONS:
        if key in schema["properties"]:
            sections[key] = describe_library_section(key)
            field = schema["properties"][key]
            reference = {"$ref": f"#/$defs/{key}"}
            is_optional = "default" in field
            content = {"anyOf": [reference, {"type": "null"}], "default": None} if is_optional else reference
            schema["properties"][key] = content | {"description": field["description"]}
    return schema


def describe_library_section(section: str) -> Schema:
    unsloth_only = library_keywords.unsloth_only_keywords() if section == "from_pretrained" else set()
    refused = training_conflicts.find_refused_keys(section)
    properties = {}
    for key, keyword in library_keywords.describe_keywords(section).items():
        field = OF_SEVERAL_TYPES.get(section, {}).get(key)
        field = dict(field or describe_library_value(section, key, keyword["types"].split()))
        meaning = keyword["meaning"]
        if key in unsloth_only:
            meaning += " Backend unsloth only."
        if key in refused:
            field = {"const": False}
            meaning = f"Only false: {refused[key]}. {meaning}"
        field["description"] = meaning
        if "default" in keyword:
            field["default"] = keyword["default"]
        properties[key] = field
    return {"title": section, "type": "object", "properties": properties, "additionalProperties": False}


def describe_library_value(section: str, key: str, json_types: list[str]) -> Schema:
    """The types, values and range of a keyword; {} allows anything."""
    values, bounds = ALLOWED_VALUES.get(section, {}).get(key), RANGES[section].get(key)
    if values and not json_types:
        json_types = ["string", "null"]
    options = [describe_type(json_type, values, bounds) for json_type in json_types]
    return options[0] if len(options) == 1 else {"anyOf": options} if options else {}


def describe_type(json_type: str, values: Sequence[str] | None, bounds: Range | None) -> Schema:
    content = {"enum": list(values)} if values else describe_range(bounds) if bounds else {}
    if json_type == "list":
        conditions = {"items": content} if content else {}
        return {"type": "array"} | conditions | ({"minItems": 1} if values else {})
    takes_content = json_type == "string" if values else json_type in ("integer", "number")
    return {"type": json_type} | (content if takes_content else {})


def describe_range(bounds: Range) -> Schema:
    low = "exclusiveMinimum" if bounds.open_low else "minimum"
    high = "exclusiveMaximum" if bounds.open_high else "maximum"
    return {low: bounds.low, high: bounds.high}


def allow_null(field: Schema) -> Schema:
    """A key that is not required may be null: its default applies then."""
    about = {key: field[key] for key in ("description", "default") if key in field}
    content = {key: value for key, value in field.items() if key not in about}
    if not content:
        return field
    options = content.get("anyOf", [content])
    options = options if NULL in options else [*options, NULL]
    return about | (merge_types(options) or {"anyOf": options})


def merge_types(options: list[Schema]) -> Schema | None:
    """One schema for options that differ in type alone, so that an editor's message names the range and not `anyOf`;
    None where they have other conditions than those of numbers."""
    types, conditions = [], {}
    for option in options:
        rest = {key: value for key, value in option.items() if key != "type"}
        differs = any(conditions.get(key, value) != value for key, value in rest.items())
        if "type" not in option or differs or not set(rest) <= NUMBER_CONDITIONS:
            return None
        types.append(option["type"])
        conditions |= rest
    return {"type": types} | conditions


def write_schemas() -> None:
    FOLDER.mkdir(exist_ok=True)
    for program in PROGRAMS:
        if program.schema_name:
            text = json.dumps(build_schema(program.arguments), indent=1, ensure_ascii=False) + "\n"
            (FOLDER / f"{program.schema_name}.json").write_text(text, encoding="utf-8")
    print(f"wrote {FOLDER}")


if __name__ == "__main__":
    write_schemas()
