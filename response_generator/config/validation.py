"""Checks an args file against what the scripts and the pinned libraries accept, and tells every fault at once."""

from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from response_generator.config import conflicts, library_keywords, ranges, strict_json
from response_generator.config.schema import LABELS_BY_ID, LABELS_BY_NAME, ModelArguments
from response_generator.errors import InputError

KEYWORD_SECTIONS = ("dpo", "lora", "generation", "from_pretrained")
OWNED_ELSEWHERE = {
    "output_dir": "write it at the top level",
    "seed": "write it at the top level",
    "report_to": "the section wandb decides that",
    "pad_token": "write chat_template.special_tokens.pad_token",
    "pad_token_id": "it is the tokenizer's",
    "eos_token_id": "it is the tokenizer's",
    "token": "a token never belongs in a file: set HF_TOKEN in the environment",
    "push_to_hub": "write the section push_to_hub at the top level",
    "hub_model_id": "write push_to_hub.repo_id at the top level",
    "resume_from_checkpoint": "run the same command again: it resumes by itself",
}
SCRIPT_OF_KEY = {"dpo": "fine_tune_dpo.py", "generation": "evaluate.py"}
GONE_FROM_TRL = {
    "model_adapter_name": "TRL has no such field any more: the trained adapter is always called 'default'",
    "ref_adapter_name": "TRL has no such field any more: the frozen adapter is always called 'ref'",
}

LARGEST_EXACT_INTEGER = 2**53  # of a float

Arguments = TypeVar("Arguments", bound=ModelArguments)


def validate_arguments(model: type[Arguments], values: dict[str, Any], file: str) -> Arguments:
    """Builds the arguments of a script. A key whose value is null is taken as if it were not there.

    Raises:
        InputError: with every fault of the file at once.
    """
    for key, script in SCRIPT_OF_KEY.items():
        if key in values and key not in model.model_fields:
            raise InputError(f"{file}: {key}: is a section of {script}, whose args file this is; name another")
    unusable = [f"{file}: {key}: {fault}" for key, fault in strict_json.find_unusable(values)]
    if unusable:
        raise InputError(*unusable)
    values = without_nulls(model, values)
    faults = []
    arguments = None
    try:
        arguments = model.model_validate(values)
    except ValidationError as error:
        faults += [fault_line(model, fault) for fault in error.errors()]
    for section in KEYWORD_SECTIONS:
        if section in model.model_fields and isinstance(values.get(section), dict):
            faults += keyword_faults(section, values[section])
    if isinstance(values.get("dpo"), dict):
        faults += conflicts.of_training(values)
    if isinstance(values.get("generation"), dict):
        faults += conflicts.of_evaluation(values)
    if isinstance(values.get("from_pretrained"), dict):
        faults += conflicts.of_loading(values["from_pretrained"])
    if faults:
        raise InputError(*(f"{file}: {fault}" for fault in faults))
    return arguments


def without_nulls(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values without the keys that are null and may be left out, sections included; unknown keys stay, to be told.

    In `generation` an integer becomes a float where a number is needed: transformers refuses a temperature of 2.
    """
    kept = {}
    for key, value in values.items():
        field = model.model_fields.get(key)
        if value is None and field is not None and not field.is_required():
            continue
        if isinstance(value, dict) and key in KEYWORD_SECTIONS:
            value = keywords_without_nulls(key, value)
        elif isinstance(value, dict) and field is not None and section_in(field):
            value = without_nulls(section_in(field), value)
        kept[key] = value
    return kept


def keywords_without_nulls(section: str, values: dict[str, Any]) -> dict[str, Any]:
    accepted = library_keywords.accepted_kinds(section)
    floats = set()
    if section == "generation":
        floats = {key for key, kinds in accepted.items() if "number" in kinds and "integer" not in kinds}
    return {
        key: float(value) if key in floats and type(value) is int and abs(value) < LARGEST_EXACT_INTEGER else value
        for key, value in values.items()
        if value is not None or key not in accepted
    }


def fault_line(model: type[BaseModel], fault: dict) -> str:
    """One pydantic error in our words: key, value received, what is allowed, what was perhaps meant."""
    key = ".".join(str(part) for part in fault["loc"] if part not in (LABELS_BY_ID, LABELS_BY_NAME))
    if fault["type"] == "extra_forbidden":
        return unknown_key(key, list(section_of(model, fault["loc"]).model_fields))
    if fault["type"] == "missing":
        return f"{key}: missing; it has no default"
    if fault["type"] == "value_error":
        return f"{key}: got {shown(fault['input'])}; {fault['ctx']['error']}"
    allowed = fault["msg"].replace("Input should be ", "").replace("a valid ", "").replace("dictionary", "object")
    return f"{key}: got {shown(fault['input'])}; allowed: {allowed}"


def section_of(model: type[BaseModel], location: tuple) -> type[BaseModel]:
    for part in location[:-1]:
        model = section_in(model.model_fields[part])
    return model


def section_in(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds; None for a key that holds a value."""
    members = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((member for member in members if isinstance(member, type) and issubclass(member, BaseModel)), None)


def keyword_faults(section: str, values: dict[str, Any]) -> list[str]:
    """Checks a section whose keys are a library's own keywords: their names, and kinds and ranges of their values."""
    accepted = library_keywords.accepted_kinds(section)
    faults = []
    for key, value in values.items():
        kinds, kind = accepted.get(key), library_keywords.kind_of(value)
        if kinds is None:
            faults.append(unknown_key(f"{section}.{key}", list(accepted)))
        elif kinds and kind not in kinds and not (kind == "integer" and "number" in kinds):
            faults.append(f"{section}.{key}: got {shown(value)}; allowed: {' or '.join(kinds)}")
        elif allowed := ranges.find_out_of_range(section, key, value):
            faults.append(f"{section}.{key}: got {shown(value)}; allowed: {allowed}")
    return faults


def unknown_key(path: str, known: list[str]) -> str:
    key = path.rpartition(".")[2]
    if key in GONE_FROM_TRL:
        return f"{path}: {GONE_FROM_TRL[key]}; remove the key"
    if key in OWNED_ELSEWHERE:
        return f"{path}: not allowed here; {OWNED_ELSEWHERE[key]}"
    near = get_close_matches(key, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"allowed: {', '.join(sorted(known)[:30])}"
    return f"{path or repr(path)}: unknown key; {hint}"


def shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({library_keywords.kind_of(value)})"
