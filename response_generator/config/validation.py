"""Checks the values of an args file against the schema and the pinned libraries, and reports all errors together."""

import json
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from response_generator.config import conflicts, strict_json
from response_generator.config.library import library_keywords
from response_generator.config.library.key_rule import KeyRule
from response_generator.config.scoring_schema import LABELS_BY_ID, LABELS_BY_NAME
from response_generator.config.section import Section, find_program
from response_generator.errors import InputError

NO_KEYS = (LABELS_BY_ID, LABELS_BY_NAME, "[key]")  # parts of a place of pydantic
SCHEMA_KEY = "$schema"  # names a JSON Schema for editors; allowed in every args file
KEYWORD_SECTIONS = tuple(library_keywords.RULES)
SCRIPT_OF_SECTION = {
    "dpo": "fine_tune_dpo.py",
    "sft": "python -m response_generator.sft",
    "generation": "evaluate.py",
    "dpo_args": "python -m response_generator.rounds",
}
RENAMED_KEYS = {  # of the args file, by their earlier names
    "samples": "sample_replies",
    "preferences": "heldout_pairs",
    "emotion": "target_emotion",
    "my_emotion": "user_emotion",
    "dataset": "datasets",
    "extra_dataset": "datasets",
    "eval_dataset": "eval_datasets",
}
NEW_FORMS = {"datasets": "a list of data sets", "eval_datasets": "an object of data sets by name"}
MAX_UNKNOWN_KEYS = 30  # of one section, that are named
MAX_EXACT_INTEGER = 2**53  # a float represents every integer up to this one exactly

Arguments = TypeVar("Arguments", bound=Section)


def validate_arguments(model: type[Arguments], values: dict[str, Any], file: str) -> Arguments:
    """Builds the arguments of a script. A key whose value is null counts as absent, and so does `$schema`.

    Raises:
        InputError: with all errors of the file.
    """
    for key, script in SCRIPT_OF_SECTION.items():
        if key in values and key not in model.model_fields:
            raise InputError(f"{file}: {key}: is a section of {script}; name an args file of this script")
    values = {key: value for key, value in values.items() if key != SCHEMA_KEY}
    unusable = [f"{file}: {key}: {message}" for key, message in strict_json.find_unusable(values)]
    if unusable:
        raise InputError(*unusable)
    values = drop_nulls(model, values)
    errors = []
    arguments = None
    try:
        arguments = model.model_validate(values)
    except ValidationError as error:
        errors += [describe_pydantic_error(model, entry) for entry in error.errors()]
    for section in KEYWORD_SECTIONS:
        if section in model.model_fields and isinstance(values.get(section), dict):
            errors += find_keyword_errors(section, values[section])
    errors += conflicts.find_conflicts(model, values)
    errors += find_errors_of_programs(model, values)
    if errors:
        raise InputError(*(f"{file}: {message}" for message in errors))
    return arguments


def find_errors_of_programs(model: type[BaseModel], values: dict[str, Any]) -> list[str]:
    """The errors in sections that are args files of other programs."""
    errors = []
    for section, field in model.model_fields.items():
        program = find_program(field)
        if program and isinstance(values.get(section), dict):
            try:
                validate_arguments(program, values[section], section)
            except InputError as error:
                errors += [message.replace(": ", ".", 1) for message in error.messages]
    return errors


def drop_nulls(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Removes optional keys whose value is null, also inside sections, and entries of objects such as `adapters`.
    Unknown keys stay, so that they are reported.

    In `generation`, an integer becomes a float where a float is needed: transformers refuses a temperature of 2.
    """
    kept = {}
    for key, value in values.items():
        field = model.model_fields.get(key)
        if value is None and field is not None and not field.is_required():
            continue
        if isinstance(value, dict) and key in KEYWORD_SECTIONS:
            value = drop_null_keywords(key, value)
        elif field is not None:
            if isinstance(value, dict) and not get_section_class(field):
                value = {name: inner for name, inner in value.items() if inner is not None}
            value = change_sections(drop_nulls, field, value)
        kept[key] = value
    return kept


def change_sections(change: Callable[[type[BaseModel], dict], dict], field: FieldInfo, value: Any) -> Any:
    """`value` with the section that a key holds, or each of those in its list or object, as `change` returns it."""
    section, entry = get_section_class(field), get_entry_class(field)
    if section and isinstance(value, dict):
        return change(section, value)
    if entry and isinstance(value, dict):
        return {name: change(entry, each) if isinstance(each, dict) else each for name, each in value.items()}
    if entry and isinstance(value, list):
        return [change(entry, each) if isinstance(each, dict) else each for each in value]
    return value


def add_defaults(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values of an args.json, with the defaults of the keys that did not exist when it was written, also inside
    sections. Keys that no longer exist stay."""
    filled = dict(values)
    for key, field in model.model_fields.items():
        if key not in values and not field.is_required():
            default = field.get_default(call_default_factory=True)
            filled[key] = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        elif key in values:
            filled[key] = change_sections(add_defaults, field, values[key])
    return filled


def drop_null_keywords(section: str, values: dict[str, Any]) -> dict[str, Any]:
    accepted = library_keywords.accepted_json_types(section)
    floats = set()
    if section == "generation":
        floats = {key for key, types in accepted.items() if "number" in types and "integer" not in types}
    return {
        key: float(value) if key in floats and type(value) is int and abs(value) < MAX_EXACT_INTEGER else value
        for key, value in values.items()
        if value is not None or key not in accepted
    }


def describe_pydantic_error(model: type[BaseModel], error: dict) -> str:
    """Rewrites one entry of pydantic's `ValidationError.errors()` in the form of our other messages."""
    key = ".".join(str(part) for part in error["loc"] if part not in NO_KEYS)
    if error["type"] == "extra_forbidden":
        section = find_section(model, error["loc"])
        if section is model and RENAMED_KEYS.get(key) in model.model_fields:
            form = NEW_FORMS.get(RENAMED_KEYS[key])
            return f"{key}: renamed to {RENAMED_KEYS[key]}{', ' + form if form else ''}"
        if section is model and (places := find_in_sections(model, key)):
            return f"{key}: unknown key; did you mean {' or '.join(places)}?"
        return describe_unknown_key(key, list(section.model_fields))
    if error["type"] == "missing":
        return f"{key}: missing; it has no default"
    if error["type"] == "value_error":
        return f"{key}: got {describe_value(error['input'])}; {error['ctx']['error']}"
    if error["type"] == "string_too_short":
        return f"{key}: is empty; write a text, or null"
    allowed = error["msg"].replace("Input should be ", "").replace("a valid ", "").replace("dictionary", "object")
    return f"{key}: got {describe_value(error['input'])}; allowed: {allowed}"


def find_section(model: type[BaseModel], location: tuple) -> type[BaseModel]:
    """The section of a key that is unknown there; a number or a name in the location is that of an entry."""
    is_entry = False
    for part in location[:-1]:
        if is_entry:
            is_entry = False
            continue
        field = model.model_fields[part]
        is_entry = get_entry_class(field) is not None
        model = get_section_class(field) or get_entry_class(field)
    return model


def find_in_sections(model: type[BaseModel], key: str) -> list[str]:
    """The paths of a key in the sections of the args file."""
    places = []
    for name, field in model.model_fields.items():
        section = get_section_class(field)
        keys = section.model_fields if section else ()
        if name in KEYWORD_SECTIONS:
            keys = library_keywords.accepted_json_types(name)
        places += [f"{name}.{key}"] if key in keys else []
    return places


def get_section_class(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the class of the section that a key holds; None when the key holds a plain value."""
    parts = () if get_origin(field.annotation) in (list, dict) else get_args(field.annotation)
    return find_section_class(field.annotation, *parts) or find_program(field)


def get_entry_class(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the class of the sections in the list or object that a key holds; None when it holds no such."""
    is_container = get_origin(field.annotation) in (list, dict)
    return find_section_class(*get_args(field.annotation)) if is_container else None


def find_section_class(*types: Any) -> type[BaseModel] | None:
    return next((each for each in types if isinstance(each, type) and issubclass(each, BaseModel)), None)


def find_keyword_errors(section: str, values: dict[str, Any]) -> list[str]:
    """Checks a section whose keys are keywords of a library: key names, JSON types and ranges."""
    accepted = library_keywords.accepted_json_types(section)
    unknown_keys = [key for key in values if key not in accepted]
    # Looking for a similar key takes a millisecond, and a wrong file may hold thousands of keys.
    errors = [describe_unknown_key(f"{section}.{key}", list(accepted)) for key in unknown_keys[:MAX_UNKNOWN_KEYS]]
    if len(unknown_keys) > MAX_UNKNOWN_KEYS:
        errors.append(f"{section}: and {len(unknown_keys) - MAX_UNKNOWN_KEYS} more unknown keys")
    for key, value in values.items():
        if key in accepted:
            rule = library_keywords.get_rule(section, key)
            errors += find_value_errors(f"{section}.{key}", value, accepted[key], rule)
    return errors


def find_value_errors(path: str, value: Any, types: list[str], rule: KeyRule) -> list[str]:
    json_type = library_keywords.json_type_of(value)
    items = value if isinstance(value, list) else [value]
    if types and json_type not in types and not (json_type == "integer" and "number" in types):
        example = f", for example [{json.dumps(value)}]" if types == ["list"] and rule.values else ""
        return [f"{path}: got {describe_value(value)}; allowed: {' or '.join(types)}{example}"]
    if rule.only_false and value:
        return [f"{path}: {rule.only_false}; remove the key"]
    numbers = [item for item in items if type(item) in (int, float)]
    if rule.range and not all(number in rule.range for number in numbers):
        return [f"{path}: got {describe_value(value)}; allowed: {rule.range}"]
    if rule.pattern and isinstance(value, str) and not re.fullmatch(rule.pattern, value):
        return [f"{path}: got {value!r}; allowed: {rule.allowed}"]
    allowed = rule.allowed or ", ".join([*rule.values, "null"] if "null" in types else rule.values)
    return [f"{path}: got {item!r}; allowed: {allowed}" for item in items if rule.values and item not in rule.values]


def describe_unknown_key(path: str, known: list[str]) -> str:
    key = path.rpartition(".")[2]
    if key in library_keywords.REFUSALS:
        return f"{path}: {library_keywords.REFUSALS[key]}"
    matches = get_close_matches(key, known, n=1)
    hint = f'did you mean "{matches[0]}"?' if matches else f"allowed: {', '.join(sorted(known)[:30])}"
    return f"{path or repr(path)}: unknown key; {hint}"


def describe_value(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({library_keywords.json_type_of(value)})"
