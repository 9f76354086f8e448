"""The JSON Schemas in args/schemas: up to date, named by every args file, and of one mind with the validation."""

import json
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT, read_json
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from response_generator.config import json_schema
from response_generator.config.args_file import ArgsFile
from response_generator.config.library import library_keywords
from response_generator.config.programs import PROGRAMS, Program
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError

ARGS_FILES = sorted((ROOT / "args").rglob("*_arg.json"))
MODELS = sorted((ROOT / "args" / "models").iterdir())
WITH_ARGS_FILE = {program.schema_name: program for program in PROGRAMS if program.schema_name}
# Refused because of another key, or required by the program where the library has a default.
TWO_KEYS = {"early_stopping_patience", "load_best_model_at_end", "eval_strategy", "fp16", "max_new_tokens"}
VALUES = (None, True, False, 0, 1, -3, 0.5, 1e12 + 0.5, "x", [], ["x"], [-3], {}, {"a": 1})


SCHEMAS = json_schema.build_schemas()
FILES = Registry(retrieve=lambda uri: Resource.from_contents(read_json(Path(uri.removeprefix("file://")))))


@cache
def build_validator(place: str) -> Draft7Validator:
    """Reads a schema as an editor does: from its file, and what it refers to from the files beside it."""
    Draft7Validator.check_schema(read_json(json_schema.FOLDER / place.partition("#")[0]))
    return Draft7Validator({"$ref": f"file://{json_schema.FOLDER}/{place}"}, registry=FILES)


def find_program(args_file) -> Program:
    schema = (args_file.parent / read_json(args_file)["$schema"]).resolve()
    assert schema.parent == json_schema.FOLDER
    return WITH_ARGS_FILE[schema.stem]


def test_the_files_are_up_to_date():
    assert {file.stem for file in json_schema.FOLDER.iterdir()} == set(SCHEMAS)
    for name, schema in SCHEMAS.items():
        text = (json_schema.FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert text == json_schema.format_json(schema) + "\n", "run python -m response_generator.config.json_schema"
        assert json.loads(text) == schema


@pytest.mark.parametrize("file", ARGS_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_args_file_is_valid(file):
    program = find_program(file)
    values = ArgsFile.read(file).values
    validate_arguments(program.arguments, values, str(file))
    validator = build_validator(f"{program.schema_name}.json")
    assert list(validator.iter_errors(read_json(file))) == []
    assert list(validator.iter_errors(values)) == []


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.name)
def test_every_file_of_a_model_is_valid(file):
    """It is no run by itself: the dry run of a program that it is given to names what is missing."""
    values = read_json(file)
    assert values["$schema"] == "../schemas/model.json"
    assert list(build_validator("model.json").iter_errors(values)) == []
    if "extends" not in values:
        assert not build_validator("dpo.json").is_valid(values)
        assert set(values) - {"$schema"} == {"base_model", "from_pretrained", "chat_template"}


def test_a_file_that_extends_another_need_not_have_all_keys():
    validator = build_validator("dpo.json")
    part = {"dataset": {"limit": 5}, "wandb": {"group": "x"}, "dpo": {"beta": 0.2}}
    missing = {error.message for error in validator.iter_errors(part)}
    assert "'base_model' is a required property" in missing
    assert "'path' is a required property" in missing and "'mode' is a required property" in missing
    assert validator.is_valid(part | {"extends": "dpo_arg.json"})
    assert validator.is_valid(part | {"extends": ["dpo_arg.json", "models/qwen3.json"]})
    for wrong in ({"extends": 3}, {"extends": []}, {"extends": ["a", 1]}, {"extends": "x", "sed": 1}):
        assert not validator.is_valid(part | wrong), wrong


def is_refused_by_program(program: Program, values: dict, key: str) -> bool:
    try:
        validate_arguments(program.arguments, values, "args")
    except InputError as error:
        return any(message.startswith(f"args: {key}: ") for message in error.messages)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("section", ["dpo", "lora", "generation", "from_pretrained", "sft", "trainer"])
def test_schema_and_program_refuse_the_same_values_of_a_library(section):
    name, file = {
        "dpo": ("dpo", "dpo_arg.json"),
        "lora": ("sft", "sft_arg.json"),
        "sft": ("sft", "sft_arg.json"),
        "trainer": ("classifier", "daily_dialog/emotion_classifier_arg.json"),
    }.get(section, ("evaluate", "evaluate_arg.json"))
    validator = build_validator(f"definitions.json#/definitions/{section}")
    differences = []
    for key in set(library_keywords.accepted_json_types(section)) - TWO_KEYS:
        for value in VALUES:
            values = ArgsFile.read(ROOT / "args" / file).values
            values[section][key] = value
            by_schema = not validator.is_valid({key: value})
            by_program = is_refused_by_program(WITH_ARGS_FILE[name], values, f"{section}.{key}")
            if by_schema != by_program:
                differences.append((key, value, "schema" if by_schema else "program"))
    assert differences == [], differences


@pytest.mark.parametrize(
    ("name", "changes", "refused"),
    [
        ("dpo", {"seeed": 1}, ["seeed"]),
        ("dpo", {"seed": -1}, ["seed"]),
        ("dpo", {"wandb": {"mode": "on"}}, ["mode"]),
        ("dpo", {"eval_dataset": None, "reference_adapter": None}, []),
        ("evaluate", {"batch_size": "auto", "samples_per_prompt": None}, []),
        ("evaluate", {"batch_size": 0}, ["batch_size"]),
        ("evaluate", {"scoring": None}, []),
        ("evaluate", {"generation": None}, ["generation"]),
        ("preference", {"filters": {"min_margn": 1}}, ["min_margn"]),
        ("classifier", {"datasets": [{"path": "x", "weight": 2}], "eval_datasets": {"a": {"path": "x"}}}, []),
        ("classifier", {"datasets": [{"path": "x", "weight": 0}], "calibration": None}, ["weight"]),
        ("classifier", {"datasets": []}, ["datasets"]),
        ("classifier", {"eval_datasets": {"a": {"path": "x", "weight": 2}, "b": None}}, ["weight"]),
    ],
)
def test_own_keys(name, changes, refused):
    folder = ROOT / "args" / ("daily_dialog" if name == "classifier" else "")
    values = ArgsFile.read(folder / WITH_ARGS_FILE[name].args_file).values | changes
    errors = build_validator(f"{name}.json").iter_errors(values)
    messages = " ".join(error.message + str([*error.path]) for error in errors)
    assert bool(messages) == bool(refused)
    assert all(key in messages for key in refused)


def test_every_key_has_a_description_and_a_default_or_is_required():
    definitions = SCHEMAS["definitions"]["definitions"]
    programs = {name: SCHEMAS[name] for name in WITH_ARGS_FILE}
    for name, section in (definitions | programs).items():
        for key, field in section["properties"].items():
            if "$ref" in field and field["$ref"].endswith(f"/properties/{key}"):
                field = definitions[field["$ref"].split("/")[2]]["properties"][key]
            assert field.get("description"), f"{name}: {key}"
    dpo = definitions["dpo"]["properties"]
    assert dpo["beta"]["default"] == 0.1 and dpo["remove_unused_columns"]["default"] is False
    smoothing = {key: value for key, value in dpo["label_smoothing"].items() if key not in ("description", "default")}
    assert smoothing == {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 0.5}


def test_a_key_that_sections_share_is_described_once():
    definitions = SCHEMAS["definitions"]["definitions"]
    assert definitions["sft"]["properties"]["adam_beta1"] == {"$ref": "#/definitions/dpo/properties/adam_beta1"}
    assert definitions["sft"]["properties"]["learning_rate"]["default"] == 2e-5  # DPO's is 1e-6
    assert SCHEMAS["sft"]["properties"]["sft"]["$ref"] == "definitions.json#/definitions/sft"
    text = json.dumps(SCHEMAS)
    assert text.count("exponential decay rate for the first moment") == 1
    assert text.count("Number of beams for beam search") == 1
