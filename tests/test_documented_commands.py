"""Every command and every example of args in the documents must be accepted. No model is loaded."""

import importlib.util
import json
import re
import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest
import tensorboard.main
from accelerate.commands.launch import launch_command_parser
from conftest import ROOT
from documents import BLOCKS, DOCUMENTS, list_inline_code, list_make_targets
from torch.distributed.run import get_args_parser as build_torchrun_parser

import evaluate
from response_generator import explain, export
from response_generator.chat import __main__ as chat
from response_generator.cli import command_line
from response_generator.config import library_keywords
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.classifier_schema import ClassifierArguments
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import EvaluateArguments, ModelArguments
from response_generator.config.training_schema import DPOArguments, SFTArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.datasets import parse_dialogue, parse_pair
from response_generator.demo import pair_classifiers
from response_generator.preferences import __main__ as preferences

PUBLISHED_ARGS = {
    DPOArguments: ROOT / "args" / "dpo_arg.json",
    EvaluateArguments: ROOT / "args" / "evaluate_arg.json",
    PreferenceDataArguments: ROOT / "args" / "preference_arg.json",
    ChatArguments: ROOT / "args" / "chat_arg.json",
    SFTArguments: ROOT / "args" / "sft_arg.json",
}
CONFIGURED = {"response_generator.sft": SFTArguments, "response_generator.classifier": ClassifierArguments}
OF_THE_SYSTEM = {"sudo", "wsl", "conda", "mkdir"}  # not in the environment, so they cannot be checked here
LAUNCHERS = {"torchrun": build_torchrun_parser, "accelerate": launch_command_parser}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


NEXT_STEPS = ROOT / "response_generator" / "demo" / "next_steps.txt"  # printed by make demo


def list_commands() -> list[tuple[str, str]]:
    """`(document, command)` of every line in a `sh` block, with continuation lines joined, and of the commands that
    make demo prints."""
    texts = [(block.file.name, block.text) for block in BLOCKS if block.language == "sh"]
    printed = re.findall(r"^  \.venv/(?:.*\\\n)*.*\n", NEXT_STEPS.read_text(encoding="utf-8"), re.MULTILINE)
    texts += [(NEXT_STEPS.name, text) for text in printed]
    return [(name, line) for name, text in texts for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def label(value: object) -> str:
    return " ".join(str(value).split())[:80]


def parse_script_options(script: str, options: list[str], monkeypatch) -> Namespace:
    if script == "evaluate.py":
        monkeypatch.setattr(sys, "argv", [script, *options])
        return evaluate.read_options()
    return command_line.build_parser(DPOArguments, "")[0].parse_args(options)


def check_script(script: str, options: list[str], monkeypatch) -> None:
    """Parses the options as the script does, and validates its args file with the overrides applied."""
    assert script in ("fine_tune_dpo.py", "evaluate.py")
    parsed = parse_script_options(script, options, monkeypatch)
    if parsed.json_file:
        command_line.read_arguments(EvaluateArguments if script == "evaluate.py" else DPOArguments, parsed)


def read_published_args(arguments: type[ModelArguments], assignments: list[str]) -> ModelArguments:
    options = Namespace(json_file=PUBLISHED_ARGS[arguments], set=assignments, verbose=False)
    return command_line.read_arguments(arguments, options)


def check_module(module: str, options: list[str], monkeypatch) -> None:
    """Checks a program of the package, or a call of pytest."""
    if module == "pytest":
        assert (ROOT / options[-1]).is_file()
        return
    assert importlib.util.find_spec(module), f"there is no module {module}"
    if module == "response_generator.preferences":
        monkeypatch.setattr(sys, "argv", [module, *options])
        parsed = preferences.read_options()
        if parsed.describe:
            preferences.read_description_arguments(parsed)
        else:
            command_line.read_arguments(PreferenceDataArguments, parsed)
        return
    if module == "response_generator.chat":
        monkeypatch.setattr(sys, "argv", [module, *options])
        command_line.read_arguments(ChatArguments, chat.read_options())
        return
    if module in CONFIGURED:
        command_line.read_arguments(
            CONFIGURED[module], command_line.build_parser(CONFIGURED[module], "")[0].parse_args(options)
        )
        return
    if module == pair_classifiers.__name__:
        monkeypatch.setattr(sys, "argv", [module, *options])
        pair_classifiers.read_options()
        return
    if module == explain.__name__:
        monkeypatch.setattr(sys, "argv", [module, *options])
        explain.main()
        return
    if module == tensorboard.main.__name__:
        tensorboard.program.TensorBoard().configure([module, *options])
        return
    if module != export.__name__:
        assert not [option for option in options if option.startswith("-")]
        return
    monkeypatch.setattr(sys, "argv", ["export", *options])
    monkeypatch.setattr(export, "read_run", lambda folder, assignments: check_export(assignments))
    monkeypatch.setattr(export.merge, "merge_in_subprocess", lambda *arguments: None)
    export.main()


def check_export(assignments: list[str]) -> None:
    assert read_published_args(DPOArguments, assignments).export


def strip_launcher(words: list[str]) -> list[str]:
    """The command that torchrun or `accelerate launch` starts, after its own options were parsed."""
    parser: ArgumentParser = LAUNCHERS[words[0]]()
    options = words[2:] if words[0] == "accelerate" else words[1:]
    parsed = parser.parse_args(options)
    if config := getattr(parsed, "config_file", None):
        assert Path(config).is_file(), config
    return ["python", parsed.training_script, *parsed.training_script_args]


@pytest.mark.parametrize(("document", "command"), list_commands(), ids=label)
def test_every_command_is_accepted(document, command, monkeypatch):
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    outside = [word for word in words if word.rpartition("=")[2].startswith(("/", "~", ".."))]
    assert not outside, "a documented command must not need files outside the repository"
    words[0] = words[0].removeprefix(".venv/bin/")
    if words[0] in LAUNCHERS:
        words = strip_launcher(words)
    program, *rest = words
    if program in OF_THE_SYSTEM:
        return
    if program == "make":
        assert set(rest) <= list_make_targets(), command
    elif program == "pip":
        source = Path(rest[-1])
        assert rest[0] == "install" and (source / "pyproject.toml" if rest[-2] == "-e" else source).is_file()
    elif rest[:2] == ["-m", "venv"]:
        assert rest[2:] == [".venv"]
    elif program.endswith("python") and rest[0] == "-m":
        check_module(rest[1], rest[2:], monkeypatch)
    elif program.endswith("python"):
        check_script(rest[0], rest[1:], monkeypatch)
    else:
        pytest.fail(f"{document}: no check for {program}")


def test_there_are_commands_of_every_kind():
    commands = " ".join(command for _, command in list_commands())
    for words in ("make demo", "fine_tune_dpo.py", "evaluate.py", "--compare", "--from_predictions", "torchrun"):
        assert words in commands


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=label)
def test_every_example_of_args_is_valid(block):
    changes = json.loads(block.text)
    arguments = next(each for each in PUBLISHED_ARGS if set(changes) <= set(each.model_fields))
    values = json.loads(PUBLISHED_ARGS[arguments].read_text(encoding="utf-8"))
    for key, value in changes.items():
        is_section = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = values[key] | value if is_section else value
    validate_arguments(arguments, values, block.file.name)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "jsonl"], ids=label)
def test_every_example_row_is_valid(block):
    for line in block.text.splitlines():
        row = json.loads(line)
        parse_pair(0, row) if "chosen" in row else parse_dialogue(0, row)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_override_in_the_text_is_valid(file):
    for code in list_inline_code(file):
        for assignment in re.findall(r"--set ([a-z]\S*=\S+)", code):
            key = assignment.partition("=")[0].partition(".")[0]
            arguments = next(each for each in PUBLISHED_ARGS if key in each.model_fields)
            read_published_args(arguments, [assignment])


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_option_in_the_text_exists(file):
    sources = [ROOT / "evaluate.py", *(Path(program.__file__) for program in (command_line, preferences, chat))]
    written = "".join(source.read_text(encoding="utf-8") for source in sources)
    known = {"--help", "--no-deps", "--no-compile", *re.findall(r'"(--\w+)"', written)}  # two are of pip
    known |= set(re.findall(r"--[\w-]+", library_keywords.FILE.read_text(encoding="utf-8")))  # the libraries' own words
    for code in list_inline_code(file):
        assert set(re.findall(r"(?<!\S)--[\w-]+", code)) <= known, code
