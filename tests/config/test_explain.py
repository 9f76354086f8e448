"""`python -m response_generator.explain` says of each key what it means, what is allowed and which programs read it."""

import sys

import pytest

from response_generator import explain
from response_generator.cli import command_line
from response_generator.config import json_schema
from response_generator.config.library.advice import ADVICE, ORIGINAL_KEYS
from response_generator.config.programs import PROGRAMS


@pytest.fixture
def run(monkeypatch, capsys):
    def run_explain(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["explain", *words])
        status = command_line.run_main(explain.main)
        printed = capsys.readouterr()
        return status, " ".join(printed.out.split()), printed.err

    return run_explain


def test_a_key_of_a_library(run):
    status, text, _ = run("dpo.beta")
    assert status == 0
    assert text.startswith("dpo.beta number (> 0, <= 1,000,000); default: 0.1; fine_tune_dpo.py Parameter controlling")
    assert "try first: 0.1 to 0.5; 2 to 5 with the loss sigmoid_norm. A smaller value lets the adapter move" in text
    assert "(Source: torchtune's DPOLoss; rlhf-book, issue 400, for sigmoid_norm.)" in text
    files = "args/dpo_arg.json, args/demo/dpo_arg.json, args/daily_dialog/dpo_arg.json"
    assert text.endswith(f"in the recipes: 0.1 in {files} in the original recipe: 0.1")


def test_a_key_that_programs_describe_differently(run):
    text = run("adapter")[1]
    assert text.count("in the recipes: ") == 4
    assert "default: required; fine_tune_dpo.py, python -m response_generator.sft" in text
    assert 'in the recipes: "./checkpoints/adapter" in args/evaluate_arg.json; "runs/demo/dpo/adapter" in' in text
    assert text.count('in the original recipe: "hermeschen1116/response_generator_for_emotion_chat_bot@') == 1


def test_the_last_part_of_a_key_is_enough(run):
    text = run("num_beams")[1]
    assert text.startswith("generation.num_beams integer (>= 1, <= 100)")
    assert "1 in args/evaluate_arg.json" in text
    assert text.endswith("in the original recipe: 1")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("dpo.ld_alpha", "set neither in args/ nor in args/demo/ and args/daily_dialog/"),
        ("dpo.learning_rate", "5e-05 in args/dpo_arg.json; 0.0002 in args/demo/dpo_arg.json, args/daily_dialog/"),
        ("dpo.precompute_ref_log_probs", "true in args/dpo_arg.json"),
        ("dpo.shared_prefix", '"auto" in args/dpo_arg.json; true in args/demo/dpo_arg.json'),
        ("sft.learning_rate", "0.0002 in args/sft_arg.json"),
        ("sample_replies", '{"every_steps": 100'),
    ],
)
def test_a_key_that_the_original_does_not_set(run, key, values):
    text = run(key)[1]
    assert f"in the recipes: {values}" in text
    assert "original recipe" not in text


def test_what_is_known_of_keys_is_about_keys_that_exist():
    paths = set()
    for program in PROGRAMS:
        schema = json_schema.describe_arguments(program.arguments)
        paths |= {setting.path for setting in explain.list_settings(schema, schema["$defs"])}
    assert set(ADVICE) <= paths
    assert {name: keys - paths for name, keys in ORIGINAL_KEYS.items()} == {
        "dpo_arg.json": set(),
        "evaluate_arg.json": set(),
    }
    for name, keys in ORIGINAL_KEYS.items():
        assert all(explain.find_value(key, name) for key in keys)


def test_texts_are_printed_without_markup(run):
    texts = [run(*words)[1] for words in ([], ["dpo.beta"], ["lora.use_rslora"], ["generation.bad_words_ids"])]
    assert not any(mark in text for text in texts for mark in ("`", "](", "%%"))
    assert "denoted by τ in the paper (https://huggingface.co/papers/2310.12036)." in texts[1]
    assert "Check NoBadWordsLogitsProcessor for" in texts[3]


def test_a_section_lists_its_keys(run):
    text = run("filters")[1]
    assert "filters.min_margin" in text and "filters.max_pairs_per_prompt" in text
    assert "filters.limit" not in text


def test_without_a_key_all_are_listed(run):
    status, text, _ = run()
    assert status == 0
    for program in PROGRAMS:
        assert all(key in text for key in program.arguments.model_fields)


def test_a_wrong_key_is_answered_by_similar_ones(run):
    status, text, errors = run("dpo.bta")
    assert (status, text) == (2, "")
    assert errors.startswith("error: dpo.bta: no key of an args file; did you mean dpo.beta")
    assert "did you mean sft.learning_rate or dpo.learning_rate" in run("learnin_rate")[2]
    assert "without a key, all of them are listed" in run("zzzz")[2]


def test_a_key_of_an_earlier_version_is_answered_by_what_takes_its_place(run):
    assert 'write loss_type: ["sigmoid", "sft"] and loss_weights: [1.0, its value]' in run("rpo_alpha")[2]
    assert "write the share of all steps as warmup_steps" in run("dpo.warmup_ratio")[2]
