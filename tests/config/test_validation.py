"""Validation of args files: the published ones are valid, and each error names the key and what to do."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, read_args, read_json

from response_generator.config.chat_schema import ChatArguments
from response_generator.config.dataset_schema import FilterArguments
from response_generator.config.library import library_keywords
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.scoring_schema import RewardArguments
from response_generator.config.training_schema import ClassifierArguments, DPOArguments
from response_generator.config.validation import add_defaults, validate_arguments
from response_generator.errors import InputError


def errors_of(changes: dict, section: str | None = None) -> list[str]:
    values = read_json(ROOT / "args" / "dpo_arg.json")
    (values[section] if section else values).update(changes)
    with pytest.raises(InputError) as error:
        validate_arguments(DPOArguments, values, "args.json")
    return error.value.messages


def test_schema_key_is_allowed_and_not_an_argument():
    values = read_json(ROOT / "args" / "dpo_arg.json")
    with_key = validate_arguments(DPOArguments, {"$schema": "anything"} | values, "args.json")
    del values["$schema"]
    assert with_key == validate_arguments(DPOArguments, values, "args.json")


def test_the_published_preference_args_are_the_original_ones():
    """The numbers of the original recipe, written down again by hand."""
    v1, v2, v3 = (read_args(f"preference{version}_arg.json") for version in ("_v1", "_v2", ""))
    assert (v3["dataset"]["limit"], v3["history_turns"], v3["candidates"], v3["max_attempts"]) == (2048, 5, 6, 30)
    assert v3["generation"] == {
        "max_new_tokens": 20,
        "min_new_tokens": 5,
        "repetition_penalty": 1.5,
        "top_k": 5,
        "top_p": 1.0,
        "temperature": 2.0,
        "do_sample": True,
    }
    weights = ("emotion_weight", "length_weight", "gibberish_weight", "bias", "min_characters", "max_characters")
    assert [v3["reward"][key] for key in weights] == [0.4, 0.25, 0.35, 0.001, 5, 20]
    assert RewardArguments() == RewardArguments(**v3["reward"])
    assert v3["filters"] == {
        "min_margin": 4.0,
        "min_chosen_score": 8.0,
        "chosen_ends_with_punctuation": True,
        "chosen_has_target_emotion": True,
        "chosen_gibberish_labels": ["clean"],
        "min_chosen_gibberish_score": 0.8,
    }
    filters = [validate_arguments(PreferenceDataArguments, args, "args.json").filters for args in (v1, v2)]
    assert filters == [FilterArguments(), FilterArguments(min_margin=4.0, min_chosen_score=8.0)]
    assert v1["max_attempts"] == 1
    own = {"filters", "max_attempts", "output_dir", "wandb"}
    assert (
        len({json.dumps({key: args[key] for key in args.keys() - own}, sort_keys=True) for args in (v1, v2, v3)}) == 1
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"history_turns": 4}, "history_turns: got 4; allowed: an odd number"),
        ({"history_turns": 0}, "history_turns: got 0 (integer); allowed: an integer from 1"),
        (
            {"history_turns": "al"},
            "history_turns: got 'al' (string); allowed: an integer from 1 to 2,147,483,647, or \"all\"",
        ),
        ({"generation": {"max_new_tokens": 20}}, "generation.do_sample: must be true"),
        ({"candidates": 1}, "candidates: got 1"),
        ({"reward": {"min_characters": 30, "max_characters": 20}}, "up to max_characters (20)"),
        ({"filters": {"min_margn": 4}}, 'filters.min_margn: unknown key; did you mean "min_margin"?'),
        ({"filters": {"min_margin": "4"}}, "filters.min_margin: got '4'"),
        ({"filters": {"min_chosen_gibberish_score": 0.8}}, "needs filters.chosen_gibberish_labels"),
        ({"samples_per_prompt": 2}, "samples_per_prompt: unknown key"),
    ],
)
def test_contradictions_of_preference_args(changes, words):
    values = read_args("preference_arg.json") | changes
    with pytest.raises(InputError) as error:
        validate_arguments(PreferenceDataArguments, values, "args.json")
    assert any(words in message for message in error.value.messages), error.value.messages


def test_filters_of_training_are_checked():
    (message,) = errors_of({"filters": {"min_characters": 9, "max_characters": 5}}, "dataset")
    assert message == "args.json: dataset.filters.min_characters: got 9; allowed: up to max_characters (5)"


def test_published_dpo_args_match_the_original_recipe():
    args = validate_arguments(DPOArguments, read_json(ROOT / "args" / "dpo_arg.json"), "dpo_arg.json")
    assert args.output_dir == os.path.abspath("checkpoints")
    # The base model that the adapter was trained on, and the last commit that holds an adapter.
    assert args.base_model == "unsloth/llama-2-7b-bnb-4bit"
    name, _, commit = args.adapter.partition("@")
    assert name == "hermeschen1116/response_generator_for_emotion_chat_bot"
    assert commit == "bbe8102695f6cceed52aeca9a1d1588a61a8e9e3"
    assert args.dataset.path == "Shotaro30678/rlhf-RG-trl-style-v3"
    assert args.from_pretrained == {
        "attn_implementation": "flash_attention_2",
        "pretraining_tp": 1,
        "load_in_4bit": True,
        "use_cache": False,
        "device_map": "auto",
        "use_gradient_checkpointing": "unsloth",
        "low_cpu_mem_usage": True,
    }
    expected = {
        "beta": 0.1,
        "num_train_epochs": 3,
        "gradient_checkpointing": True,
        "remove_unused_columns": False,
        # the defaults of DPOConfig when the original recipe was written
        "learning_rate": 5e-5,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 1.0,
    }
    assert {key: args.dpo[key] for key in expected} == expected
    assert args.seed == 42


def test_published_evaluation_args_match_the_original_recipe():
    args = validate_arguments(EvaluateArguments, read_json(ROOT / "args" / "evaluate_arg.json"), "evaluate_arg.json")
    trained = validate_arguments(DPOArguments, read_json(ROOT / "args" / "dpo_arg.json"), "dpo_arg.json")
    assert (args.base_model, args.baseline_adapter) == (trained.base_model, trained.adapter)
    assert args.adapter == f"{trained.output_dir}/adapter"
    assert args.scoring.clean_up_tokenization_spaces and args.scoring.emotion_labels == {"joy": "happiness"}
    assert (args.dataset.path, args.dataset.split, args.dataset.num_proc) == (
        "hermeschen1116/daily_dialog_for_RG",
        "test",
        16,
    )
    assert args.generation == {
        "max_new_tokens": 150,
        "min_new_tokens": 5,
        "repetition_penalty": 1.1,
        "top_k": 3,
        "top_p": 0.9,
        "temperature": 1.0,
        "do_sample": True,
        "num_beams": 1,
    }


def test_all_errors_are_reported_together():
    errors = errors_of({"bakend": "unsloth", "seed": "42", "dpo": {"betta": 0.1, "beta": "high"}})
    assert 'args.json: bakend: unknown key; did you mean "backend"?' in errors
    assert "args.json: seed: got '42' (string); allowed: integer" in errors
    assert 'args.json: dpo.betta: unknown key; did you mean "beta"?' in errors
    assert "args.json: dpo.beta: got 'high' (string); allowed: number" in errors
    assert len(errors) == 4


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("dpo", "model_adapter_name", "traingg", "always called 'default'"),
        ("dpo", "ref_adapter_name", "reference", "always called 'ref'"),
        ("dpo", "output_dir", "x", "write it at the top level"),
        ("dpo", "gradient_checkpointing", "False", "allowed: boolean"),
        ("dpo", "truncation_mode", "keep_end", "keep_start"),
        ("dpo", "loss_type", ["sigmod"], "allowed: sigmoid, hinge"),
        ("dpo", "loss_type", [], "needed: at least one of sigmoid, hinge"),
        ("dpo", "loss_type", 1, "allowed: list"),
        ("dpo", "local_rank", 7, "torchrun and accelerate tell each process its rank"),
        ("dpo", "eval_strategy", "steps", "name an eval_dataset"),
        ("dpo", "sync_ref_model", True, "does not support it with an adapter"),
        ("dpo", "early_stopping_patience", 2, "needs dpo.load_best_model_at_end: true"),
        ("dpo", "load_best_model_at_end", True, "needs dpo.eval_strategy"),
        ("dpo", "metric_for_best_model", "eval_margin", "rewards/margins"),
        ("dpo", "save_only_model", True, "cannot be resumed from such a checkpoint"),
        ("dpo", "ignore_data_skip", True, "other rows than an uninterrupted one"),
        ("dpo", "auto_find_batch_size", True, "during the run"),
        ("dpo", "eval_on_start", True, "would evaluate again"),
        ("dpo", "remove_unused_columns", True, "needs all columns"),
        ("dpo", "enable_jit_checkpoint", True, "saves a checkpoint without it"),
        ("dpo", "save_strategy", "best", "saves no checkpoint to resume from"),
        ("dpo", "train_sampling_strategy", "by_length", "random, group_by_length, sequential"),
        ("dpo", "per_device_train_batch_size", 0, "from 1 to"),
        ("dpo", "max_length", 4096, "more than from_pretrained.max_seq_length (2048)"),
        ("dpo", "push_to_hub", True, "write the section push_to_hub"),
        ("dpo", "f_divergence_type", "kl", "got 'kl'; allowed: reverse_kl"),
        ("dpo", "shared_prefix", "yes", "got 'yes'; allowed: true, false, \"auto\""),
        ("from_pretrained", "load_in_4bits", True, 'did you mean "load_in_4bit"?'),
        ("from_pretrained", "token", "hf_x", "HF_TOKEN"),
        ("from_pretrained", "dtype", "bf16", "allowed: bfloat16, float16, float32, null"),
        ("from_pretrained", "attn_implementation", "flash", "allowed: eager, sdpa, flash_attention_2"),
        ("from_pretrained", "device_map", "mars", "allowed: auto, balanced"),
        ("dpo", "pad_token", "<pad>", "write chat_template.special_tokens.pad_token"),
        ("dpo", "fp16", True, "keep one of the two"),
        ("dpo", "padding_free", True, "has disabled it"),
        ("dataset", "splt", "train", 'did you mean "split"?'),
        ("dataset", "limit", 0, "greater than or equal to 1"),
        ("wandb", "mode", "onlin", "'auto', 'online', 'offline' or 'disabled'"),
        ("chat_template", "required_markers", "[INST]", "list"),
    ],
)
def test_an_error_names_the_key_and_what_to_do(section, key, value, words):
    errors = errors_of({key: value}, section)
    assert len(errors) == 1
    assert f"{section}.{key}" in errors[0]
    assert words in errors[0]


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        (DPOArguments, "evaluate", "generation: is a section of evaluate.py; name an args file of this script"),
        (EvaluateArguments, "dpo", "dpo: is a section of fine_tune_dpo.py; name an args file of this script"),
    ],
)
def test_the_args_file_of_the_other_script_is_refused(model, name, words):
    with pytest.raises(InputError, match=words) as error:
        validate_arguments(model, read_json(ROOT / "args" / f"{name}_arg.json"), "args.json")
    assert len(error.value.messages) == 1


def test_a_missing_key_and_a_section_of_the_wrong_type_are_refused():
    assert errors_of({"dpo": 3}) == ["args.json: dpo: got 3 (integer); allowed: object"]
    values = read_json(ROOT / "args" / "dpo_arg.json")
    del values["base_model"]
    with pytest.raises(InputError, match="base_model: missing"):
        validate_arguments(DPOArguments, values, "args.json")


def test_a_number_may_be_an_integer_but_not_a_boolean():
    values = read_json(ROOT / "args" / "dpo_arg.json")
    values["dpo"]["beta"] = 1
    assert validate_arguments(DPOArguments, values, "args.json").dpo["beta"] == 1
    assert errors_of({"beta": True}, "dpo") == ["args.json: dpo.beta: got True (boolean); allowed: number"]


@pytest.mark.slow
def test_library_keywords_file_matches_the_pinned_libraries():
    # In another process, because unsloth's GPU code patches transformers and TRL when it is imported.
    code = "import json; from response_generator import library_reader as k; print(json.dumps(k.read_from_libraries()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    keywords = json.loads(done.stdout.strip().splitlines()[-1])
    assert keywords == read_json(library_keywords.FILE)


@pytest.mark.parametrize(
    ("model", "name", "old", "new"),
    [
        (DPOArguments, "dpo", "samples", "sample_replies"),
        (EvaluateArguments, "evaluate", "preferences", "heldout_pairs"),
        (ChatArguments, "chat", "my_emotion", "user_emotion"),
    ],
)
def test_an_earlier_name_is_answered_by_the_present_one(model, name, old, new):
    with pytest.raises(InputError) as error:
        validate_arguments(model, read_args(f"{name}_arg.json") | {old: {}}, "args.json")
    assert error.value.messages == [f"args.json: {old}: renamed to {new}"]


def test_sections_in_lists_and_objects_are_sections():
    values = {"output_dir": "run", "seed": 1, "base_model": "owner/encoder", "trainer": {}}
    values |= {"datasets": [{"path": "owner/a", "split": None, "weight": 2}, {"path": "owner/b"}]}
    values |= {"eval_datasets": {"a test": {"path": "owner/a", "limit": None}, "removed": None}}
    arguments = validate_arguments(ClassifierArguments, values, "args.json")
    assert [(each.split, each.weight) for each in arguments.datasets] == [("train", 2), ("train", 1)]
    assert list(arguments.eval_datasets) == ["a test"]

    written = arguments.model_dump(mode="json")  # as a version without these keys would have written it
    del written["datasets"][1]["weight"], written["eval_datasets"]["a test"]["columns"], written["label_balance"]
    assert add_defaults(ClassifierArguments, written) == arguments.model_dump(mode="json")

    values["eval_datasets"]["a test"]["weight"] = 1
    with pytest.raises(InputError) as error:
        validate_arguments(ClassifierArguments, values, "args.json")
    (message,) = error.value.messages
    assert message.startswith("args.json: eval_datasets.a test.weight: unknown key; allowed: columns, limit")
