"""`python -m response_generator.explain` says of each key what it means, what is allowed and which programs read it."""

import sys

import pytest

from response_generator import explain
from response_generator.cli import command_line
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
    assert text.endswith("original recipe: 0.1 in args/dpo_arg.json")


def test_a_key_that_programs_describe_differently(run):
    text = run("adapter")[1]
    assert text.count("original recipe: ") == 3
    assert "default: required; fine_tune_dpo.py, response_generator.sft" in text
    assert 'original recipe: "./checkpoints/adapter" in args/evaluate_arg.json' in text


def test_the_last_part_of_a_key_is_enough(run):
    text = run("num_beams")[1]
    assert text.startswith("generation.num_beams integer (>= 1, <= 100)")
    assert "original recipe: 1 in args/evaluate_arg.json" in text


def test_a_key_that_the_original_does_not_set(run):
    assert "original recipe: not in its args files" in run("dpo.ld_alpha")[1]


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
