"""Every command of the documents is executed, those of a document from top to bottom, on tiny models.

tests/commands.py lists what is not executed; docs/your-own-data.md is followed in test_your_own_data.py.
"""

import io
import os
import re
import shutil
import signal
import sys
import urllib.request
from pathlib import Path

import pytest
from commands import (
    NOT_EXECUTED,
    PROGRAMS,
    find_args_file,
    list_assignments,
    list_commands,
    list_recipe,
    run_program,
    split_command,
    to_options,
)
from conftest import read_json
from documents import BLOCKS
from small_repository import ROWS, write_small_repository
from tensorboard.program import TensorBoard

from response_generator.chat.server import ChatServer
from response_generator.cli import command_line
from response_generator.config import documentation, json_schema
from response_generator.config.args_file import PROGRAM_SECTIONS, ArgsFile
from response_generator.modeling import merge

FOLLOWED_ELSEWHERE = "your-own-data.md"
TENSORBOARD = "tensorboard.main"
NO_ACCOUNT = {"wandb.mode": "disabled"}
FEW_TOKENS = {"generation.max_new_tokens": 8}
# What a tiny machine changes, by the JSON Schema of the args file. No reply of a random model passes a filter.
CHANGES = {
    "sft": NO_ACCOUNT,
    "dpo": NO_ACCOUNT,
    "preference": NO_ACCOUNT | FEW_TOKENS | {"filters": {}, "candidates": 2, "max_attempts": 1},
    "evaluate": NO_ACCOUNT | FEW_TOKENS | {"bootstrap_resamples": 1000},
    "chat": FEW_TOKENS,
    "rounds": {
        **{f"{section}.wandb.mode": "disabled" for section in PROGRAM_SECTIONS},
        **{f"{section}.generation.max_new_tokens": 8 for section in ("preference_args", "evaluate_args")},
        "dialogues_per_round": 5,
        "rounds": 2,
        "preference_args.filters": {},
        "preference_args.candidates": 2,
        "preference_args.max_attempts": 1,
        "evaluate_args.bootstrap_resamples": 1000,
    },
    "classifier": {"frozen_layers": 1},  # the tiny base model has two layers
}
CHANGES_OF_ONE_FILE = {
    "args/demo/sft_arg.json": {"lora.layers_to_transform": None},
    "args/daily_dialog/emotion_classifier_arg.json": {
        "eval_datasets.DailyDialog validation.offset": None,
        "calibration.dataset.split": "train",  # these few validation dialogues do not have every emotion
    },
    "args/dpo_12gb_arg.json": {"dpo.optim": "adamw_torch"},  # 8-bit optimizers need a GPU
    "args/chinese/sft_arg.json": {"sft.optim": "adamw_torch"},
    "args/chinese/dpo_arg.json": {"dpo.optim": "adamw_torch"},
    "args/qwen3/sft_arg.json": {"sft.optim": "adamw_torch"},
    "args/qwen3/dpo_arg.json": {"dpo.optim": "adamw_torch"},
}
FIRST = ("README.md", "tutorial.md")  # the others take for granted what these have made
# Runs and rows that a document takes for granted, as copies of what exists after the commands of the first ones.
COPIES = {
    "evaluation.md": {
        f"runs/{name}": "evaluation" for name in ("first", "second", "third", "seed_1", "seed_2", "seed_3")
    },
    "your-own-data.zh-TW.md": {
        "my_data": "hermeschen1116/daily_dialog_for_RG",
        "google-bert/bert-base-chinese": "assets/encoder",
        "FacebookAI/xlm-roberta-base": "assets/base_model",
    },
    "recipes.md": {"my_data": "hermeschen1116/daily_dialog_for_RG"},
}
# The files for the rows that a document shows, with a word that each of their rows has.
SHOWN_ROWS = {
    "plain_pairs.md": {
        "pairs.jsonl": '"chosen"',
        "heldout_pairs.jsonl": '"chosen"',
        "dialogues.jsonl": '"messages"',
        "test_dialogues.jsonl": '"messages"',
    }
}
# What is removed before the commands that contain these words.
REMOVED = {
    # A reader has run these either with the rows of the hub or with rows of their own.
    "qwen3/sft_arg.json --set dataset.path=my_data": ("runs/qwen3/sft",),
    "qwen3/preference_arg.json --set dataset.path=my_data": ("runs/qwen3/preferences",),
    "qwen3/evaluate_arg.json --set dataset.path=my_data": ("runs/qwen3/evaluate",),
}
TRAINED = ("metrics.json", "report.html", "adapter/adapter_model.safetensors")
WRITTEN = {
    "fine_tune_dpo.py": TRAINED,
    "evaluate.py": ("metrics.json", "report.html"),
    "response_generator.sft": TRAINED,
    "response_generator.preferences": ("metrics.json", "report.html"),
    "response_generator.rounds": ("metrics.json", "report.html", "rounds.png"),
    "response_generator.classifier": ("metrics.json", "classifier/model.safetensors"),
    "response_generator.export": ("model.safetensors", "tokenizer.json"),
    "response_generator.blind_test": ("blind_test.html", "key.json"),
    "response_generator.config.documentation": ("configuration.md",),
    "response_generator.config.json_schema": ("definitions.json", "dpo.json", "chat.json"),
}
# Of commands that name no folder.
OUTPUT_FOLDERS = {
    "response_generator.preferences": "preference_report",
    "response_generator.blind_test": "evaluation/blind_test",
    "response_generator.config.documentation": ".",
    "response_generator.config.json_schema": "schemas",
}


def plan_commands() -> dict[str, list[str]]:
    """The commands that are executed, by document. Each is executed once: torchrun and accelerate start what python
    starts. In place of `make demo` stand the commands of its recipe."""
    plan, planned = {}, []
    for document, written in list_commands():
        for command in list_recipe("demo") if written == "make demo" else [written]:
            if document != FOLLOWED_ELSEWHERE and command not in NOT_EXECUTED and split_command(command) not in planned:
                planned.append(split_command(command))
                plan.setdefault(document, []).append(command)
    return plan


PLAN = plan_commands()


def change_options(options: list[str]) -> list[str]:
    """The options of a command as a tiny machine can run them."""
    options = list(options)
    if args_file := find_args_file(options):
        schema = Path(read_json(Path(args_file))["$schema"]).stem
        changes = CHANGES[schema] | CHANGES_OF_ONE_FILE.get(args_file, {})
        changes = {key: value for key, value in changes.items() if f"{key.partition('.')[0]}=null" not in options}
        if "--dry_run" in options:  # the original recipe's, too, is to need no account
            changes = {key: value for key, value in changes.items() if not key.endswith("wandb.mode")}
        options += to_options(changes)
    if "--dry_run" in options:
        options += ["--set", "output_dir=not_written"]  # of a finished run only its end would be reported
    if "--serve" in options:
        options += ["--serve", "0"]  # any free port
    return options


def find_output(program: str, options: list[str]) -> Path:
    """The folder that a command writes."""
    if "--output_dir" in options:
        return Path(options[options.index("--output_dir") + 1])
    args_file = find_args_file(options)
    values = ArgsFile.read(Path(args_file)).values if args_file else {}
    for assignment in list_assignments(options):
        command_line.apply_override(values, assignment)
    if program == "response_generator.export":
        return Path(values["export"]["path"])
    return Path(values.get("output_dir") or OUTPUT_FOLDERS[program])


def execute(command: str, patch: pytest.MonkeyPatch) -> None:
    for words, folders in REMOVED.items():
        for folder in folders if words in command else ():
            shutil.rmtree(folder)
    program, options = split_command(command)
    if program == TENSORBOARD:
        show_tensorboard([program, *options])
        return
    options = change_options(options)
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hello .\n/compare\n")))  # for the chat
    printed = run_program(program, options, patch)
    if program == "response_generator.chat":
        expected = r"^open http://127\.0\.0\.1:\d+/" if "--serve" in options else r"^\S+\t.+\t.*seed 42.*\n^\S+\t"
        assert re.search(expected, printed, re.MULTILINE), command
    elif program == "response_generator.explain":
        assert printed.startswith(f"{options[0]}  "), command
    else:
        output = find_output(program, options)
        missing = [name for name in WRITTEN[program] if not (output / name).is_file()]
        assert not output.exists() if "--dry_run" in options else not missing, f"{command}: {missing}"
        if (output / "environment.json").exists() and (args_file := find_args_file(options)):
            assert read_json(output / "environment.json")["starts"][-1]["args_files"][-1] == args_file


def show_tensorboard(words: list[str]) -> None:
    """Starts the server in a thread, as its own notebook extension does, and requests the page."""
    board = TensorBoard()
    board.configure([*words, "--port", "0"])
    with urllib.request.urlopen(board.launch()) as page:
        assert b"<title>TensorBoard</title>" in page.read()


def prepare_programs(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes the programs run in `folder`, write documents there, end a server at once, and merge in this process
    (test_your_own_data.py exports in one of its own)."""
    patch.chdir(folder)
    patch.delenv("WANDB_API_KEY", raising=False)
    patch.setenv("NETRC", os.devnull)
    patch.setattr(documentation, "FILE", folder / "configuration.md")
    patch.setattr(json_schema, "FOLDER", folder / "schemas")
    patch.setattr(ChatServer, "service_actions", lambda server: signal.raise_signal(signal.SIGINT))
    patch.setattr(merge, "call_in_new_process", lambda function, *arguments: function(*arguments))


@pytest.fixture(scope="module")
def after_tutorial(tmp_path_factory) -> Path:
    """A folder in which the commands of the first documents were executed."""
    folder = tmp_path_factory.mktemp("commands") / "repository"
    folder.mkdir()
    write_small_repository(folder)
    with pytest.MonkeyPatch.context() as patch:
        prepare_programs(folder, patch)
        for command in [command for document in FIRST for command in PLAN[document]]:
            execute(command, patch)
    shutil.copytree(folder, folder.with_name("after_tutorial"), symlinks=True)
    return folder


@pytest.fixture
def repository(after_tutorial, monkeypatch) -> Path:
    """The same folder as the first documents leave it; its path is always the same, because runs record their own."""
    shutil.rmtree(after_tutorial)
    shutil.copytree(after_tutorial.with_name("after_tutorial"), after_tutorial, symlinks=True)
    prepare_programs(after_tutorial, monkeypatch)
    return after_tutorial


def test_the_commands_of_the_readme_and_the_tutorial_work(after_tutorial):
    metrics = read_json(after_tutorial / "runs" / "comparison" / "metrics.json")
    assert metrics["prompts"] == ROWS
    assert {"demo/evaluate/emotion_accuracy", "beta/evaluate/emotion_accuracy"} <= metrics.keys()


def write_shown_rows(document: str, folder: Path) -> None:
    blocks = [block.text for block in BLOCKS if block.file.name == document and block.language == "jsonl"]
    folder.mkdir()
    for name, word in SHOWN_ROWS[document].items():
        (folder / name).write_text("".join(text for text in blocks if word in text), encoding="utf-8")


@pytest.mark.parametrize("document", [document for document in PLAN if document not in FIRST])
def test_the_commands_of_a_document_work(document, repository, monkeypatch):
    for name, source in COPIES.get(document, {}).items():
        shutil.copytree(repository / source, repository / name)
    if document in SHOWN_ROWS:
        write_shown_rows(document, repository / "my_data")
    for command in PLAN[document]:
        execute(command, monkeypatch)


def test_every_command_is_executed_or_listed_with_a_reason():
    commands = {command for _, command in list_commands()}
    for command in commands - NOT_EXECUTED.keys() - {"make demo"}:
        assert split_command(command)[0] in {*PROGRAMS, TENSORBOARD}, f"execute it here, or list it: {command}"
    assert NOT_EXECUTED.keys() <= commands, "listed, but in no document"
    assert len(list_recipe("demo")) == 2


def test_no_change_is_left_over():
    executed = [command for commands in PLAN.values() for command in commands]
    for args_file in CHANGES_OF_ONE_FILE:
        assert any(args_file in command for command in executed), args_file
    assert COPIES.keys() <= PLAN.keys()
    for words in REMOVED:
        assert any(words in command for command in executed), words
