"""Every number has a range, and a key whose value is null counts as absent."""

import pytest
from annotated_types import Ge, Gt, Le
from conftest import ROOT, read_json
from pydantic import BaseModel

from response_generator.config import preference_schema, schema
from response_generator.config.library import library_keywords
from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError


def read_args(script: str) -> tuple[type[schema.ModelArguments], dict]:
    model = DPOArguments if script == "dpo" else EvaluateArguments
    return model, read_json(ROOT / "args" / f"{script}_arg.json")


def errors_of(script: str, path: str, value) -> list[str]:
    model, values = read_args(script)
    section, _, key = path.rpartition(".")
    (values[section] if section else values)[key] = value
    try:
        validate_arguments(model, values, "args.json")
    except InputError as error:
        return error.messages
    return []


@pytest.mark.parametrize("section", library_keywords.RULES)
def test_every_numeric_library_keyword_has_a_range(section):
    accepted = library_keywords.accepted_json_types(section)
    numeric = {key for key, types in accepted.items() if {"integer", "number"} & set(types)} - {"device_map"}
    assert numeric == {key for key, rule in library_keywords.RULES[section].items() if rule.range}


def test_every_number_in_the_schema_has_a_range():
    names = vars(schema) | vars(preference_schema)
    sections = [value for value in names.values() if isinstance(value, type) and issubclass(value, BaseModel)]
    numeric = {}
    for section in sections:
        for key, field in section.model_fields.items():
            types = {field.annotation, *getattr(field.annotation, "__args__", ())}
            if {int, float} & types:
                numeric[f"{section.__name__}.{key}"] = {type(bound) for bound in field.metadata}
    assert len(numeric) >= 8
    unbounded = {
        "DatasetArguments.limit",
        "EvaluationDatasetArguments.limit",
        "PairDatasetArguments.limit",
        "FilteredPairDatasetArguments.limit",
        "ScoringArguments.batch_size",
        "FitScoringArguments.batch_size",
        "EvaluationScoringArguments.batch_size",
    }
    for section in ("GenerationArguments", "EvaluateArguments", "PreferenceDataArguments"):
        numeric.pop(f"{section}.batch_size", None)  # an integer or "auto", tried below
    numeric.pop("PreferenceDataArguments.history_turns")  # an integer or "all": test_validation.py
    for name, bounds in numeric.items():
        assert bounds & {Ge, Gt}, name
        # A batch size or limit above the number of rows uses all rows.
        assert Le in bounds or name in unbounded, name


@pytest.mark.parametrize(
    ("script", "key", "bad", "good"),
    [
        ("dpo", "dpo.beta", (0, 0.0, -0.1, 1e9), (1e-6, 1)),
        ("dpo", "dpo.learning_rate", (0, -1e-5, 50), (1e-9, 3.0)),
        ("dpo", "dpo.num_train_epochs", (0, -1), (0.5, 3)),
        ("dpo", "dpo.max_steps", (-2,), (-1, 7)),
        ("dpo", "dpo.dataloader_num_workers", (-1, 100_000), (0, 4)),
        ("dpo", "dpo.data_seed", (-1, 2**32), (0, 2**32 - 1)),
        ("dpo", "dpo.gradient_accumulation_steps", (0, -4, 2**40), (1,)),
        ("dpo", "dpo.per_device_train_batch_size", (0, -8), (100_000,)),
        ("dpo", "dpo.label_smoothing", (-0.1, 0.5, 1), (0, 0.4)),
        ("dpo", "dpo.warmup_steps", (-1,), (0, 0.1, 10)),
        ("dpo", "dpo.adam_beta2", (1, -0.1), (0.999,)),
        ("dpo", "dpo.weight_decay", (-0.1,), (0,)),
        ("dpo", "dpo.max_length", (0, 1), (2,)),
        ("dpo", "dpo.save_steps", (0, -1), (0.5, 100)),
        ("dpo", "seed", (-1, 2**32), (0, 2**32 - 1)),
        ("dpo", "dataset.num_proc", (0, 100_000), (1, 16)),
        ("dpo", "from_pretrained.max_seq_length", (0,), (4096,)),
        ("dpo", "from_pretrained.gpu_memory_utilization", (0, 1.1), (1.0,)),
        ("evaluate", "batch_size", (0, -1, 1.5, True, [8]), (1, 64, "auto")),
        ("evaluate", "generation.temperature", (0, -1.0), (0.7, 2)),
        ("evaluate", "generation.top_k", (-1,), (0, 50)),
        ("evaluate", "generation.top_p", (-0.1, 1.1), (0, 0.9, 1)),
        ("evaluate", "generation.min_p", (-0.1, 1.1), (0.1,)),
        ("evaluate", "generation.typical_p", (0, 1.1), (0.9,)),
        ("evaluate", "generation.repetition_penalty", (0, -1.1), (1, 1.2)),
        ("evaluate", "generation.no_repeat_ngram_size", (-1,), (0, 3)),
        ("evaluate", "generation.num_beams", (0, -1, 101), (1,)),
        ("evaluate", "generation.max_new_tokens", (0, -5), (10,)),
        ("evaluate", "generation.min_new_tokens", (-1, 151), (0, 150)),
        ("evaluate", "generation.exponential_decay_length_penalty", ([-1, 1.1],), ([5, 1.1],)),
        ("evaluate", "samples_per_prompt", (0, 10**6), (4,)),
        ("evaluate", "bootstrap_resamples", (99, 10**9), (1000,)),
    ],
)
def test_a_number_outside_its_range_is_refused(script, key, bad, good):
    for value in bad:
        errors = [
            message for message in errors_of(script, key, value) if message.startswith(f"args.json: {key}: got {value}")
        ]
        assert len(errors) == 1 and "allowed: " in errors[0], value
    for value in good:
        assert errors_of(script, key, value) == []


def test_infinite_numbers_and_lone_surrogates_are_refused():
    model, values = read_args("dpo")
    values["dpo"]["beta"] = float("inf")
    values["wandb"]["notes"] = "\ud800"
    with pytest.raises(InputError) as error:
        validate_arguments(model, values, "args.json")
    assert error.value.messages == [
        "args.json: dpo.beta: got inf; allowed: a finite number",
        "args.json: wandb.notes: holds U+D800, which is half a character; write the text again",
    ]
    assert errors_of("dpo", "dpo.beta", float("1e999")) == ["args.json: dpo.beta: got inf; allowed: a finite number"]


def test_an_integer_in_generation_becomes_a_float_where_transformers_needs_one():
    model, values = read_args("evaluate")
    values["generation"] |= {"temperature": 2, "repetition_penalty": 2}
    settings = validate_arguments(model, values, "args.json").generation
    assert [type(settings[key]) for key in ("temperature", "repetition_penalty", "top_k")] == [float, float, int]


def test_null_counts_as_absent_in_every_section():
    model, values = read_args("dpo")
    values["from_pretrained"]["pretraining_tp"] = None
    values["dpo"] |= {"beta": None, "max_length": None}
    values["dataset"]["split"] = None
    values["chat_template"]["required_markers"] = None
    args = validate_arguments(model, values, "args.json")
    assert "pretraining_tp" not in args.from_pretrained
    assert not {"beta", "max_length"} & set(args.dpo)
    assert (args.dataset.split, args.chat_template.required_markers) == ("train", [])
    assert errors_of("dpo", "base_model", None) == ["args.json: base_model: got None (null); allowed: string"]
    assert errors_of("dpo", "dpo.betta", None) == ['args.json: dpo.betta: unknown key; did you mean "beta"?']
