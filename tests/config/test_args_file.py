"""Args files that extend others: what is merged, what is refused, and where an error says that a value was written."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
from conftest import ROOT, read_args, read_json

from response_generator.cli.command_line import read_arguments
from response_generator.config.args_file import ArgsFile, merge
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory: the files that the tests write are named by relative paths in messages."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, **values) -> Path:
    file = Path(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(values), encoding="utf-8")
    return file


def read_dpo(file: Path, *assignments: str) -> DPOArguments:
    return read_arguments(DPOArguments, Namespace(json_file=file, set=list(assignments), verbose=False))


def refuse(file: Path, *assignments: str) -> list[str]:
    with pytest.raises(InputError) as error:
        read_dpo(file, *assignments)
    return error.value.messages


@pytest.mark.parametrize(
    ("values", "changes", "merged"),
    [
        ({"dpo": {"beta": 0.1, "optim": "a"}}, {"dpo": {"beta": 0.2}}, {"dpo": {"beta": 0.2, "optim": "a"}}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3}}}, {"a": {"b": {"c": 3, "d": 2}}}),
        ({"tags": ["x", "y"]}, {"tags": ["z"]}, {"tags": ["z"]}),
        ({"sample_replies": {"prompts": 3}}, {"sample_replies": None}, {"sample_replies": None}),
        ({"sample_replies": None}, {"sample_replies": {"prompts": 3}}, {"sample_replies": {"prompts": 3}}),
        # Another model's tokens and labels, not these and its own.
        ({"special_tokens": {"eos_token": "x"}}, {"special_tokens": {"pad_token": "y"}},
         {"special_tokens": {"pad_token": "y"}}),
        ({"scoring": {"emotion_labels": {"joy": "happiness"}}}, {"scoring": {"emotion_labels": {"LABEL_0": "anger"}}},
         {"scoring": {"emotion_labels": {"LABEL_0": "anger"}}}),
        ({"eval_datasets": {"DailyDialog": {"path": "x"}}}, {"eval_datasets": {"mine": {"path": "y"}}},
         {"eval_datasets": {"mine": {"path": "y"}}}),
    ],
)  # fmt: skip
def test_objects_are_merged_and_other_values_replaced(values, changes, merged):
    before = json.dumps(values)
    assert merge(values, changes) == merged
    assert json.dumps(values) == before


def test_a_chain_of_three_files_is_the_same_run_as_one_file(folder):
    whole = read_json(ROOT / "args" / "dpo_arg.json")
    base = {key: value for key, value in whole.items() if key not in ("dataset", "sample_replies")}
    dpo = {key: value for key, value in whole["dpo"].items() if key != "beta"} | {"learning_rate": 1.0}
    write("base/base.json", **base | {"dpo": dpo, "seed": 7, "export": {"path": "x"}})
    middle = {"dpo": {"learning_rate": 5e-5, "beta": 9.0}, "seed": 8, "sample_replies": whole["sample_replies"]}
    write("middle.json", extends="base/base.json", **middle)
    file = write("runs/last.json", extends="../middle.json", dpo={"beta": 0.1}, seed=42, dataset=whole["dataset"],
                 export=None)  # fmt: skip
    options = Namespace(json_file=file, set=[], verbose=False)
    assert read_arguments(DPOArguments, options) == read_dpo(write("whole.json", **whole))
    assert options.args_files == ("base/base.json", "middle.json", "runs/last.json")
    assert read_dpo(file, "dpo.beta=0.3").dpo == whole["dpo"] | {"beta": 0.3}  # --set comes last


def test_of_a_list_the_last_file_wins(folder):
    write("first.json", seed=1, backend="unsloth")
    write("second.json", seed=2)
    assert ArgsFile.read(write("a.json", extends=["first.json", "second.json"])).values == {
        "seed": 2,
        "backend": "unsloth",
    }
    assert ArgsFile.read(write("b.json", extends=["second.json", "first.json"])).values["seed"] == 1


def test_a_path_may_hold_variables_and_a_null_is_no_file(folder, monkeypatch):
    monkeypatch.setenv("PLACE", str(folder))
    write("first.json", seed=1)
    assert ArgsFile.read(write("a.json", extends="$PLACE/first.json")).values == {"seed": 1}
    assert ArgsFile.read(write("b.json", extends=None, seed=2)).values == {"seed": 2}


@pytest.mark.parametrize(
    ("files", "messages"),
    [
        ({"a": "a.json"}, ["a.json: extends: leads back to the same file; a.json extends a.json"]),
        (
            {"a": "b.json", "b": "c.json", "c": "./x/../a.json"},
            ["a.json: extends: leads back to the same file; a.json extends b.json extends c.json extends a.json"],
        ),
        (
            {"a": "b.json", "b": ["none.json", "gone.json"]},
            [
                "none.json: no such file; a path in extends is relative to the file in which it stands; "
                "a.json extends b.json extends none.json",
                "gone.json: no such file; a path in extends is relative to the file in which it stands; "
                "a.json extends b.json extends gone.json",
            ],
        ),
        ({"a": 3}, ["a.json: extends: got 3; allowed: the path of an args file, or a list of them"]),
        ({"a": []}, ["a.json: extends: got []; allowed: the path of an args file, or a list of them"]),
        (
            {"a": "b.json", "b": ["c.json", 1]},
            [
                "b.json: extends: got ['c.json', 1]; allowed: the path of an args file, or a list of them; "
                "a.json extends b.json"
            ],
        ),
        ({"a": " "}, ["a.json: extends: got ' '; it is blank"]),
    ],
)
def test_a_wrong_extends_is_refused_with_the_chain(folder, files, messages):
    for name, extends in files.items():
        write(f"{name}.json", extends=extends)
    assert refuse(Path("a.json")) == messages


def test_broken_json_in_an_extended_file_is_refused_with_the_chain(folder):
    Path("b.json").write_text('{"seed": 1,}', encoding="utf-8")
    (message,) = refuse(write("a.json", extends="b.json"))
    assert message.startswith("b.json: broken JSON at column") and message.endswith("; a.json extends b.json")


def test_two_files_that_extend_the_same_one_are_no_circle(folder):
    write("base.json", seed=1)
    write("b.json", extends="base.json")
    write("c.json", extends="base.json", backend="unsloth")
    assert ArgsFile.read(write("a.json", extends=["b.json", "c.json"])).values == {"seed": 1, "backend": "unsloth"}


def test_an_error_names_the_file_that_wrote_the_value(folder):
    whole = read_json(ROOT / "args" / "dpo_arg.json")
    write("base.json", **whole | {"sed": 1, "dpo": whole["dpo"] | {"optm": "x", "beta": "high", "loss_type": ["x"]}})
    file = write("mine.json", extends="base.json", dpo={"beta": "low"}, dataset={"path": None})
    errors = refuse(file, "dpo.max_length=-1")
    told = [message.partition("; ")[0] for message in errors]
    assert sorted(told) == [
        "--set: dpo.max_length: got -1 (integer)",
        "base.json: dpo.loss_type: got 'x'",
        "base.json: dpo.optm: unknown key",
        "base.json: sed: unknown key",
        "mine.json: dataset.path: got None (null)",
        "mine.json: dpo.beta: got 'low' (string)",
    ]
    assert all(message.endswith(" (extended by mine.json)") == (message[:4] == "base") for message in errors)


@pytest.mark.parametrize("assignment", ["extends=base.json", "extends.a=1", "dpo_args.extends=base.json"])
def test_set_does_not_extend(folder, assignment):
    (message,) = refuse(write("a.json"), assignment)
    assert message.startswith(f"--set {assignment}: only an args file extends another")


def test_null_removes_an_entry_of_an_object(folder):
    values = read_args("demo/chat_arg.json")
    write("base.json", **values)
    file = write("mine.json", extends="base.json", adapters={"DPO": None})
    args = read_arguments(ChatArguments, Namespace(json_file=file, set=[], verbose=False))
    assert list(args.adapters) == ["SFT"]


@pytest.mark.parametrize("model", ["llama2", "llama3", "qwen3", "gemma3", "smollm2"])
@pytest.mark.parametrize("recipe", ["dpo_arg.json", "demo/dpo_arg.json", "llama3/dpo_arg.json", "gemma3/dpo_arg.json"])
def test_a_model_is_switched_with_one_line(folder, recipe, model):
    args, models = ROOT / "args", ROOT / "args" / "models"
    file = write("mine.json", extends=[str(args / recipe), str(models / f"{model}.json")], output_dir="runs/mine")
    mine, own = read_dpo(file), read_json(models / f"{model}.json")
    assert mine.base_model.endswith(own["base_model"])
    assert mine.chat_template.special_tokens == own["chat_template"]["special_tokens"]
    assert mine.chat_template.required_markers == own["chat_template"]["required_markers"]
    assert ("pretraining_tp" in mine.from_pretrained) <= (model not in ("qwen3", "gemma3"))  # Llama's models only
    assert mine.dpo == read_dpo(args / recipe).dpo


@pytest.mark.parametrize("program", ["dpo", "evaluate"])
def test_the_original_recipe_stands_alone_and_agrees_with_the_file_of_its_model(program):
    original = read_json(ROOT / "args" / f"{program}_arg.json")
    assert "extends" not in original
    model = {key: value for key, value in read_args("models/llama2.json").items() if key != "$schema"}
    assert merge(original, model) == original
