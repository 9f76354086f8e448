"""Commands and examples of args in the documents must be accepted as they are written. No model is loaded; commands are
executed in tests/scripts/test_executed_commands.py, with changes for tiny models."""

import json
import re
from argparse import Namespace
from pathlib import Path

import pytest
from commands import NOT_EXECUTED, find_args_file, list_assignments, list_commands, split_command
from conftest import ROOT, read_json
from documents import BLOCKS, DOCUMENTS, list_inline_code, list_make_targets
from tiny_models import EMOTION_LABELS

from response_generator.blind_test import __main__ as blind_test
from response_generator.chat import __main__ as chat
from response_generator.cli import command_line
from response_generator.config.args_file import ArgsFile
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.library import library_keywords
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.programs import PROGRAMS
from response_generator.config.rounds.rounds_schema import RoundsArguments
from response_generator.config.schema import EvaluateArguments, LabelArguments
from response_generator.config.training_schema import ClassifierArguments, DPOArguments, SFTArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.datasets import parse_dialogue, parse_pair
from response_generator.data.row_formats import normalize_dialogue, normalize_pair
from response_generator.labels import Labels
from response_generator.preferences import __main__ as preferences

PUBLISHED_ARGS = {
    DPOArguments: ROOT / "args" / "dpo_arg.json",
    EvaluateArguments: ROOT / "args" / "evaluate_arg.json",
    PreferenceDataArguments: ROOT / "args" / "preference_arg.json",
    ChatArguments: ROOT / "args" / "chat_arg.json",
    SFTArguments: ROOT / "args" / "sft_arg.json",
    RoundsArguments: ROOT / "args" / "rounds_arg.json",
    ClassifierArguments: ROOT / "args" / "daily_dialog" / "emotion_classifier_arg.json",
}
ARGUMENTS = {program.schema_name: program.arguments for program in PROGRAMS}
COMMANDS = list(dict.fromkeys(command for _, command in list_commands()))


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def label(value: object) -> str:
    return " ".join(str(value).split())[:80]


def read_published_args(arguments: type[LabelArguments], assignments: list[str]) -> LabelArguments:
    options = Namespace(json_file=PUBLISHED_ARGS[arguments], set=assignments, verbose=False)
    return command_line.read_arguments(arguments, options)


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--json_file" in command], ids=label)
def test_the_args_of_every_command_are_valid(command):
    _, options = split_command(command)
    file = Path(find_args_file(options))
    arguments = ARGUMENTS[Path(read_json(file)["$schema"]).stem]
    read = Namespace(json_file=file, set=list(list_assignments(options)), verbose=False)
    command_line.read_arguments(arguments, read)


@pytest.mark.parametrize("command", COMMANDS, ids=label)
def test_no_command_needs_files_outside_the_repository(command):
    assert not [word for word in command.split() if word.rpartition("=")[2].startswith(("/", "~", ".."))]


@pytest.mark.parametrize("command", NOT_EXECUTED, ids=label)
def test_what_is_not_executed_names_targets_and_files_that_exist(command):
    program, *words = command.split()
    if program == "make":
        assert set(words) <= list_make_targets()
    elif "pip" in program or "pytest" in words:
        name = words[-1]
        assert (ROOT / name / "pyproject.toml" if words[-2] == "-e" else ROOT / name).is_file()


def test_there_are_commands_of_every_kind():
    commands = " ".join(COMMANDS)
    for words in ("make demo", "fine_tune_dpo.py", "evaluate.py", "--compare", "--from_predictions", "torchrun"):
        assert words in commands


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=label)
def test_every_example_of_args_is_valid(block, tmp_path):
    changes = json.loads(block.text)
    if "extends" in changes:  # relative to the repository
        (tmp_path / "args").symlink_to(ROOT / "args")
        (tmp_path / "mine.json").write_text(block.text, encoding="utf-8")
        changes = ArgsFile.read(tmp_path / "mine.json").values
    changes.pop("$schema", None)
    arguments = next(each for each in PUBLISHED_ARGS if set(changes) <= set(each.model_fields))
    values = ArgsFile.read(PUBLISHED_ARGS[arguments]).values
    for key, value in changes.items():
        is_section = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = values[key] | value if is_section else value
    validate_arguments(arguments, values, block.file.name)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "jsonl"], ids=label)
def test_every_example_row_is_valid(block):
    for line in block.text.splitlines():
        row = json.loads(line)
        labels = Labels((), None) if block.file.name == "plain_pairs.md" else EMOTION_LABELS
        if "chosen" in row:
            parse_pair(0, normalize_pair(row, {}), labels)
        else:
            parse_dialogue(0, normalize_dialogue(row, {}), labels)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_override_in_the_text_is_valid(file):
    for code in list_inline_code(file):
        for assignment in re.findall(r"--set ([a-z]\S*=\S+)", code):
            key = assignment.partition("=")[0].partition(".")[0]
            arguments = next(each for each in PUBLISHED_ARGS if key in each.model_fields)
            read_published_args(arguments, [assignment])


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_option_in_the_text_exists(file):
    sources = [
        ROOT / "evaluate.py",
        *(Path(program.__file__) for program in (command_line, preferences, chat, blind_test)),
    ]
    written = "".join(source.read_text(encoding="utf-8") for source in sources)
    known = {"--help", "--no-deps", "--no-compile", *re.findall(r'"(--\w+)"', written)}  # two are of pip
    known |= set(re.findall(r"--[\w-]+", library_keywords.FILE.read_text(encoding="utf-8")))  # the libraries' own words
    for code in list_inline_code(file):
        assert set(re.findall(r"(?<!\S)--[\w-]+", code)) <= known, code
