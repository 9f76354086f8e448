"""The command line: args file, overrides and exit status; errors are found before torch is imported."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import pytest
from conftest import ROOT, read_args
from script_runs import script_environment

from response_generator.cli.command_line import apply_override, read_arguments
from response_generator.config.strict_json import JSONError, build_unique_object, read_object
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import find_keyword_errors
from response_generator.errors import InputError


def test_an_override_is_json_or_else_text():
    values = {"dpo": {"beta": 0.1}, "eval_dataset": None}
    apply_override(values, "dpo.beta=0.2")
    apply_override(values, "eval_dataset.path=held_out.jsonl")
    apply_override(values, "wandb.tags=[1]")
    assert values == {"dpo": {"beta": 0.2}, "eval_dataset": {"path": "held_out.jsonl"}, "wandb": {"tags": [1]}}


def test_an_override_of_an_entry_of_a_list():
    values = {"datasets": [{"path": "a"}, {"path": "b"}], "wandb": {"tags": ["x", "y"]}}
    apply_override(values, "datasets.1.path=c")
    apply_override(values, "datasets.0.columns.text=words")
    apply_override(values, "wandb.tags.1=z")
    assert values == {
        "datasets": [{"path": "a", "columns": {"text": "words"}}, {"path": "c"}],
        "wandb": {"tags": ["x", "z"]},
    }
    with pytest.raises(InputError, match="there is no 2 in a list with the entries 0, 1; write the whole value"):
        apply_override(values, "datasets.2.path=c")
    with pytest.raises(InputError, match="there is no path in a list with the entries 0, 1"):
        apply_override(values, "datasets.path=c")
    with pytest.raises(InputError, match='there is no length in "x"; write the whole value'):
        apply_override(values, "wandb.tags.0.length=c")


@pytest.mark.parametrize("assignment", ["dpo.beta", "=1", "dpo..beta=1"])
def test_an_override_without_key_or_value_is_refused(assignment):
    with pytest.raises(InputError, match="KEY.PATH=VALUE"):
        apply_override({}, assignment)


def test_an_error_names_the_file_or_the_option_that_the_value_came_from(tmp_path):
    values = read_object(ROOT / "args" / "dpo_arg.json") | {"sed": 1}
    file = tmp_path / "args.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    options = Namespace(json_file=file, set=["dpo.bta=0.3", "beta=0.3"], verbose=False)
    with pytest.raises(InputError) as error:
        read_arguments(DPOArguments, options)
    assert sorted(error.value.messages) == [
        "--set: beta: unknown key; did you mean dpo.beta?",
        '--set: dpo.bta: unknown key; did you mean "beta"?',
        f'{file}: sed: unknown key; did you mean "seed"?',
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n "seed": 42,\n "dpo": {,}\n}', "broken JSON at line 3, column 10"),
        ('{"seed": 1, "seed": 2}', "seed: written twice"),
        ('{"beta": NaN}', "NaN is not JSON"),
        ("[1, 2]", "holds a list"),
        ("", "is empty"),
        ("\ufeff[]", "holds a list"),
        ("[" * 9000, "nested more than 100"),
        (f'{{"seed": {"1" * 5000}}}', "more digits"),
    ],
)
def test_a_broken_args_file_is_refused(tmp_path, text, words):
    file = tmp_path / "args.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_object(file)
    assert words in str(error.value)


class CountedKey(str):
    """A key that counts how often one is compared with another."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountedKey.comparisons += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_a_repeated_key_is_found_among_many_without_comparing_each_with_each():
    keys = [f"key_{number}" for number in range(2000)]
    pairs = [(CountedKey(key), 1) for key in [*keys, "key_7", "key_3"]]
    with pytest.raises(JSONError, match="^key_3, key_7: written twice; keep one$"):
        build_unique_object(pairs)
    assert CountedKey.comparisons < 10 * len(pairs)
    with pytest.raises(JSONError, match="key_1004, key_1005 and 1990 more keys: written twice"):
        build_unique_object([(key, 1) for key in keys + keys])


def test_of_very_many_unknown_keys_the_first_are_named():
    errors = find_keyword_errors("dpo", {f"learning_rate_{number}": 1 for number in range(20_000)})
    assert errors[0] == 'dpo.learning_rate_0: unknown key; did you mean "learning_rate"?'
    assert (len(errors), errors[-1]) == (31, "dpo: and 19970 more unknown keys")


def test_a_missing_args_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_object(tmp_path / "none.json")


@pytest.mark.parametrize("script", ["fine_tune_dpo.py", "evaluate.py"])
@pytest.mark.slow
def test_input_errors_end_with_status_2_before_torch_is_imported(script, tmp_path):
    file = tmp_path / "args.json"
    name = script.replace("fine_tune_", "").replace(".py", "_arg.json")
    values = read_args(f"demo/{name}")
    values |= {"output_dir": str(tmp_path / "run"), "adapter": str(tmp_path), "wandb": {"mode": "online"}}
    file.write_text(json.dumps(values), encoding="utf-8")
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--json_file', {str(file)!r}]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: print('status', end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=script_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "status 2 False"
    assert "needed: a PEFT adapter" in done.stderr
    assert "WANDB_API_KEY" in done.stderr and "wandb login" in done.stderr and "wandb.mode=offline" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_help_names_every_section():
    done = subprocess.run(
        [sys.executable, "fine_tune_dpo.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    for section in ("base_model", "adapter", "from_pretrained", "dataset", "dpo", "wandb", "--set", "--dry_run"):
        assert section in done.stdout
    assert "`" not in done.stdout
    lines = done.stdout.partition("sections of the args file:\n")[2].splitlines()
    start = max(map(len, DPOArguments.model_fields)) + 4
    assert {line[2 : start - 1].strip() for line in lines} == {*DPOArguments.model_fields, ""}
    assert all(line[start - 2 : start].isspace() and len(line) <= 80 for line in lines)


@pytest.mark.slow
def test_a_program_draws_pictures_when_a_notebook_starts_it():
    """The kernel of a notebook sets MPLBACKEND to a backend that the programs' environment does not have."""
    program = (
        "from response_generator.cli import command_line\n"
        "def main():\n"
        "    import matplotlib\n"
        "    print(matplotlib.get_backend())\n"
        "raise SystemExit(command_line.run_main(main))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=script_environment() | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip().lower()) == (0, "agg"), done.stderr
