"""Every path in the args is made absolute once, and the absolute path is used and recorded."""

import os

import pytest
from conftest import CHATML

from response_generator.config.paths import resolve_path
from response_generator.config.sources import resolve_source
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Sets a home folder, an environment variable and a working directory for the test."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work" / "base").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("~/runs/a", "home/runs/a"),
        ("$DATA/a", "data/a"),
        ("${DATA}/a/../b", "data/b"),
        ("./runs", "work/runs"),
        ("runs", "work/runs"),
        ("/etc", None),
    ],
)
def test_a_path_is_made_absolute(places, written, expected):
    assert resolve_path(written) == (str(places / expected) if expected else written)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (" ", "blank"),
        ("~no_such_user_here/a", "no user 'no_such_user_here'"),
        ("$UNSET/a", r"\$UNSET is not set"),
        ("${UNSET}", "is not set"),
        ("a" * 256, "256 bytes; allowed: up to 255"),
        ("é" * 128, "256 bytes"),
        ("a/" * 2048, "up to 3800 bytes"),
    ],
)
def test_an_impossible_path_is_refused(places, written, words):
    with pytest.raises(ValueError, match=words):
        resolve_path(written)


def test_an_existing_folder_may_have_the_name_of_a_variable(places):
    (places / "work" / "$UNSET").mkdir()
    assert resolve_path("$UNSET") == str(places / "work" / "$UNSET")


def test_hub_ids_stay_and_local_paths_are_made_absolute(places):
    assert resolve_source("owner/name@main") == "owner/name@main"
    assert resolve_source("gpt2") == "gpt2"
    assert resolve_source("base") == str(places / "work" / "base")
    assert resolve_source("~/rows.jsonl") == str(places / "home" / "rows.jsonl")


def test_all_paths_in_the_args_are_absolute(tiny, places):
    values = tiny.dpo(places / "run", export={"path": "~/merged", "base_model": "base"})
    values |= {"output_dir": "~/run", "adapter": "./sft", "reference_adapter": "$DATA/ref"}
    values["eval_dataset"] = {"path": "held_out.jsonl"}
    args = validate_arguments(DPOArguments, values, "args.json")
    assert args.output_dir == str(places / "home" / "run")
    assert args.adapter == str(places / "work" / "sft")
    assert args.reference_adapter == str(places / "data" / "ref")
    assert args.eval_dataset.path == str(places / "work" / "held_out.jsonl")
    assert args.export.path == str(places / "home" / "merged")
    assert args.export.base_model == str(places / "work" / "base")
    assert args.chat_template.file == CHATML
    recorded = args.model_dump(mode="json")
    assert recorded["output_dir"] == args.output_dir and "~" not in str(recorded)
    assert args.output_dir == os.path.expanduser(args.output_dir)  # transformers expands it again


def test_bad_paths_are_reported_together_with_other_errors(tiny, places):
    values = tiny.dpo(places / "run") | {"output_dir": "$UNSET/run", "base_model": "~no_such_user_here/x", "seed": -1}
    with pytest.raises(InputError) as error:
        validate_arguments(DPOArguments, values, "args.json")
    assert error.value.messages == [
        "args.json: seed: got -1 (integer); allowed: greater than or equal to 0",
        "args.json: base_model: got '~no_such_user_here/x' (string); there is no user 'no_such_user_here'; write the "
        "full path",
        "args.json: output_dir: got '$UNSET/run' (string); the environment variable $UNSET is not set",
    ]
