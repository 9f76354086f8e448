"""JSON Schemas of the args files, for editors: every key with its meaning, type, range and default.

An args file names the schema of its program with `"$schema": "schemas/dpo.json"`. A file in args/models/, which others
extend, names schemas/model.json. The sections, which programs share, are in schemas/definitions.json. After a change of
the arguments or of a pinned library, write the schemas again:

    python -m response_generator.config.json_schema
"""

import json
from pathlib import Path
from typing import Any

from response_generator.config.args_file import EXTENDS_KEY
from response_generator.config.library import library_keywords
from response_generator.config.library.key_rule import KeyRule, Range
from response_generator.config.programs import PROGRAMS
from response_generator.config.schema import LoadingArguments
from response_generator.config.section import Section, find_program
from response_generator.config.validation import KEYWORD_SECTIONS, SCHEMA_KEY

FOLDER = Path(__file__).parents[2] / "args" / "schemas"
DEFINITIONS, MODEL = "definitions", "model"
DRAFT = {"$schema": "http://json-schema.org/draft-07/schema#"}
LINE_CHARACTERS = 120

Schema = dict[str, Any]
NULL = {"type": "null"}
FILE_KEYS = {  # of every args file; the programs' arguments do not have them
    SCHEMA_KEY: {"type": "string", "description": "This schema, for editors; the program ignores the key."},
    EXTENDS_KEY: {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        "description": "Args file, or list of them, whose values this file takes and changes: a path relative to this "
        "file. Objects are merged key by key; of a list, later files change earlier ones.",
    },
}
NUMBER_CONDITIONS = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}


def build_schemas() -> dict[str, Schema]:
    """The JSON Schema of each program's args file and that of the sections, by the name of their file.

    They hold every check of a single value, but not those of two keys together.
    """
    with_args_file = [program for program in PROGRAMS if program.schema_name]
    programs = {program.schema_name: build_program_schema(program.arguments) for program in with_args_file}
    definitions = build_definitions([program.arguments for program in with_args_file])
    return {DEFINITIONS: definitions, MODEL: build_part_schema(LoadingArguments)} | programs


def build_program_schema(arguments: type[Section]) -> Schema:
    """A file that extends another need not have all required keys itself."""
    described = describe_arguments(arguments)
    needed = collect_required(described, described["$defs"])
    return build_part_schema(arguments) | {"if": {"required": [EXTENDS_KEY]}, "else": needed}


def build_part_schema(arguments: type[Section]) -> Schema:
    """The schema of a file that has some of the keys."""
    schema = describe_arguments(arguments, f"{DEFINITIONS}.json#/definitions/{{model}}")
    del schema["$defs"]
    allow_nulls(schema)
    del schema["required"]
    names = {program.arguments: program.schema_name for program in PROGRAMS}
    for key, field in arguments.model_fields.items():
        if program := find_program(field):
            schema["properties"][key]["allOf"] = [{"$ref": f"{names[program]}.json"}]
    schema["properties"] = FILE_KEYS | schema["properties"]
    return DRAFT | schema


def collect_required(section: Schema, sections: dict[str, Schema]) -> Schema:
    """The condition that a section, and the sections in it, have their required keys."""
    inner = {}
    for key, field in section["properties"].items():
        name = find_section_name(field)
        if name and (needed := collect_required(sections[name], sections)):
            inner[key] = needed
    needed = {"required": section["required"]} if section.get("required") else {}
    return needed | ({"properties": inner} if inner else {})


def find_section_name(field: Schema) -> str | None:
    """The name, in `$defs`, of the section that a key holds; None when it holds a plain value."""
    references = [option["$ref"] for option in [field, *field.get("anyOf", [])] if "$ref" in option]
    return references[0].rpartition("/")[2] if references else None


def find_entry_section_name(field: Schema) -> str | None:
    """The same of the sections in a list or an object that a key holds."""
    entries = field.get("items") or field.get("additionalProperties")
    return find_section_name(entries) if isinstance(entries, dict) else None


def build_definitions(programs: list[type[Section]]) -> Schema:
    """The sections of all args files. A key that an earlier section describes alike is a reference to it."""
    sections: dict[str, Schema] = {}
    for arguments in programs:
        sections |= describe_arguments(arguments, "#/definitions/{model}")["$defs"]
    places: dict[str, str] = {}
    for name, section in sections.items():
        allow_nulls(section)
        section.pop("required", None)  # see collect_required
        for key, field in section["properties"].items():
            place = f"#/definitions/{name}/properties/{key}"
            first = places.setdefault(f"{key} {json.dumps(field)}", place)
            if first != place:
                section["properties"][key] = {"$ref": first}
    return DRAFT | {"description": "The sections of the args files.", "definitions": sections}


def allow_nulls(section: Schema) -> None:
    for key, field in section["properties"].items():
        if isinstance(field.get("additionalProperties"), dict):  # an entry that is null is removed
            field["additionalProperties"] = allow_null(field["additionalProperties"])
        if key not in section.get("required", ()):
            section["properties"][key] = allow_null(field)


def describe_arguments(arguments: type[Section], reference: str = "#/$defs/{model}") -> Schema:
    """pydantic's schema of the arguments, with the sections whose keys are a library's own filled in.

    Args:
        reference: how the schema refers to a section; `{model}` is its name in `$defs`.
    """
    schema = arguments.model_json_schema(ref_template=reference)
    sections = schema.setdefault("$defs", {})
    for section in (schema, *sections.values()):
        for field in section["properties"].values():
            field.pop("title", None)  # only the key in other letters
            field["description"] = " ".join(field["description"].split())
    for key in KEYWORD_SECTIONS:
        if key in schema["properties"]:
            sections[key] = describe_library_section(key)
            field = schema["properties"][key]
            section = {"$ref": reference.format(model=key)}
            is_optional = "default" in field
            content = {"anyOf": [section, {"type": "null"}], "default": None} if is_optional else section
            schema["properties"][key] = content | {"description": field["description"]}
    return schema


def describe_library_section(section: str) -> Schema:
    unsloth_only = library_keywords.unsloth_only_keywords() if section == "from_pretrained" else set()
    properties = {}
    for key, keyword in library_keywords.describe_keywords(section).items():
        rule = library_keywords.get_rule(section, key)
        meaning = f"Only false: {rule.only_false}. {keyword['meaning']}" if rule.only_false else keyword["meaning"]
        meaning += " Backend unsloth only." if key in unsloth_only else ""
        default = {"default": keyword["default"]} if "default" in keyword else {}
        properties[key] = describe_library_value(keyword["types"].split(), rule) | {"description": meaning} | default
    return {"title": section, "type": "object", "properties": properties, "additionalProperties": False}


def describe_library_value(json_types: list[str], rule: KeyRule) -> Schema:
    """The types, values and range of a keyword; {} allows anything."""
    if rule.only_false:
        return {"const": False}
    if any(not isinstance(value, str) for value in rule.values):
        return {"enum": list(rule.values)}
    options = [describe_type(json_type, rule) for json_type in json_types]
    return options[0] if len(options) == 1 else {"anyOf": options} if options else {}


def describe_type(json_type: str, rule: KeyRule) -> Schema:
    content = describe_range(rule.range) if rule.range else {}
    content |= {"enum": list(rule.values)} if rule.values else {}
    content |= {"pattern": f"^({rule.pattern})$"} if rule.pattern else {}
    if json_type == "list":
        conditions = {"items": content} if content else {}
        return {"type": "array"} | conditions | ({"minItems": 1} if rule.values else {})
    takes_content = json_type in (("integer", "number") if rule.range else ("string",))
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


def format_json(value: Any, start: str = "", indent: str = "") -> str:
    """JSON text in which an object or a list is on one line if it fits there.

    Args:
        start: what stands before the value, such as its key.
    """
    line = indent + start + json.dumps(value, ensure_ascii=False)
    if len(line) <= LINE_CHARACTERS or not isinstance(value, (dict, list)):
        return line
    if isinstance(value, dict):
        parts = [format_json(each, f"{json.dumps(key)}: ", f"{indent} ") for key, each in value.items()]
    else:
        parts = [format_json(each, indent=f"{indent} ") for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([f"{indent}{start}{opening}", ",\n".join(parts), f"{indent}{closing}"])


def write_schemas() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, schema in build_schemas().items():
        (FOLDER / f"{name}.json").write_text(format_json(schema) + "\n", encoding="utf-8")
    print(f"wrote {FOLDER}")


if __name__ == "__main__":
    write_schemas()
