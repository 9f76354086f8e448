"""The commands in the documents, and running one of them in this process."""

import contextlib
import io
import json
import re
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

import pytest
from accelerate.commands.launch import launch_command_parser
from documents import BLOCKS
from tiny_models import ROOT
from torch.distributed.run import get_args_parser as build_torchrun_parser

import evaluate
import fine_tune_dpo
from response_generator import classifier, explain, export, sft
from response_generator.blind_test import __main__ as blind_test
from response_generator.chat import __main__ as chat
from response_generator.cli import command_line
from response_generator.config import documentation, json_schema
from response_generator.demo import pair_classifiers
from response_generator.preferences import __main__ as preferences
from response_generator.rounds import __main__ as rounds

NEXT_STEPS = ROOT / "response_generator" / "demo" / "next_steps.txt"  # printed by make demo
LAUNCHERS = {"torchrun": build_torchrun_parser, "accelerate": launch_command_parser}
PROGRAMS = {
    "fine_tune_dpo.py": fine_tune_dpo.main,
    "evaluate.py": evaluate.main,
    "response_generator.sft": sft.main,
    "response_generator.preferences": preferences.main,
    "response_generator.rounds": rounds.main,
    "response_generator.classifier": classifier.main,
    "response_generator.export": export.main,
    "response_generator.chat": chat.main,
    "response_generator.explain": explain.main,
    "response_generator.blind_test": blind_test.main,
    "response_generator.config.documentation": documentation.write_page,
    "response_generator.config.json_schema": json_schema.write_schemas,
    "response_generator.demo.pair_classifiers": pair_classifiers.main,
}
INSTALLS = "installs packages; test_installation.py covers the package itself"
CHANGES_THE_SYSTEM = "changes the system, and is not in the environment of the tests"
RUNS_TESTS = "runs tests, as here"
NEEDS_A_SERVER = "needs a server with these models; tests/server runs the programs with one of tiny models"
MAKES_ASSETS = "builds and trains the demo's models for minutes; test_demo.py covers the parts"
NOT_EXECUTED = {  # with the reason
    "git clone PUT-THE-ADDRESS-OF-THIS-REPOSITORY-HERE response-generator": "needs the address",
    "cd response-generator": "the tests run there",
    "make install": INSTALLS,
    "python3 -m venv .venv": INSTALLS,
    ".venv/bin/pip install -e .": INSTALLS,
    ".venv/bin/pip install --no-deps -r requirements-no-deps.txt": INSTALLS,
    ".venv/bin/pip install --no-build-isolation -r requirements-gpu.txt": "compiles for a GPU",
    "conda create -y -p .venv -c conda-forge python=3.11 pip c-compiler": CHANGES_THE_SYSTEM,
    "wsl --install -d Ubuntu-24.04": CHANGES_THE_SYSTEM,
    "sudo apt-get update": CHANGES_THE_SYSTEM,
    "sudo apt-get install -y make gcc python3-dev python3-venv": CHANGES_THE_SYSTEM,
    "make test-fast": RUNS_TESTS,
    "make test": RUNS_TESTS,
    "make test-gpu": RUNS_TESTS,
    "make test-vllm": RUNS_TESTS,
    ".venv/bin/python -m pytest -q -m 'not gpu' tests/evaluation/test_report.py": RUNS_TESTS,
    "make style": "checks lint and formatting, as .ci/run does before the tests",
    "mkdir -p my_data": "test_your_own_data.py makes the folder",
    "make assets": MAKES_ASSETS,
    ".venv/bin/python -m response_generator.demo": MAKES_ASSETS,
    ".venv/bin/python -m response_generator.demo.pair_classifiers --train runs/pair_classifiers": "takes long",
    ".venv/bin/python -m response_generator.blind_test evaluation --score answers-ann.json answers-ben.json": "needs "
    "answers of people; test_rating_page.py answers a page and scores it",
    ".venv/bin/python evaluate.py --json_file args/llama3/server_evaluate_arg.json": NEEDS_A_SERVER,
    ".venv/bin/python evaluate.py --json_file args/llama3/server_evaluate_arg.json --dry_run": NEEDS_A_SERVER,
    ".venv/bin/python -m response_generator.preferences --json_file args/llama3/preference_arg.json --set "
    "generation_method=server --set server.url=http://localhost:8000 --set server.model=sft": NEEDS_A_SERVER,
    ".venv/bin/python -m response_generator.chat --json_file args/llama3/chat_arg.json --set "
    """server.url=http://localhost:8000 --set 'server.models={"SFT": "sft", "DPO": "dpo"}'""": NEEDS_A_SERVER,
    "make daily_dialog": "takes hours; test_your_own_data.py runs the same programs with the same settings",
}


def list_commands() -> list[tuple[str, str]]:
    """`(document, command)` of every line in a `sh` block, with continuation lines joined, and of the commands that
    make demo prints."""
    texts = [(block.file.name, block.text) for block in BLOCKS if block.language == "sh"]
    printed = re.findall(r"^  \.venv/(?:.*\\\n)*.*\n", NEXT_STEPS.read_text(encoding="utf-8"), re.MULTILINE)
    texts += [(NEXT_STEPS.name, text) for text in printed]
    lines = [(name, line) for name, text in texts for line in text.replace("\\\n", " ").splitlines()]
    return [(name, shlex.join(shlex.split(line, comments=True))) for name, line in lines if line.strip()]


def split_command(command: str) -> tuple[str, list[str]]:
    """The program or module that a command starts, with its options. torchrun and `accelerate launch` are left out,
    after their own options were parsed."""
    words = shlex.split(command)
    words[0] = words[0].removeprefix(".venv/bin/")
    if words[0] in LAUNCHERS:
        return strip_launcher(words)
    if words[0] == "python":
        words = words[2:] if words[1] == "-m" else words[1:]
    return words[0], words[1:]


def strip_launcher(words: list[str]) -> tuple[str, list[str]]:
    parser: ArgumentParser = LAUNCHERS[words[0]]()
    parsed = parser.parse_args(words[2:] if words[0] == "accelerate" else words[1:])
    if config := getattr(parsed, "config_file", None):
        assert (ROOT / config).is_file(), config
    return parsed.training_script, parsed.training_script_args


def find_args_file(options: list[str]) -> str | None:
    return options[options.index("--json_file") + 1] if "--json_file" in options else None


def list_assignments(options: list[str]) -> Iterator[str]:
    for word, following in zip(options, options[1:], strict=False):
        if word == "--set":
            yield following


def to_options(changes: dict[str, Any]) -> list[str]:
    """`--set` for each of `changes`, which are values by their keys in the args file."""
    return [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def run_program(program: str, options: list[str], patch: pytest.MonkeyPatch) -> str:
    """Runs a program in this process, and returns what it prints."""
    patch.setattr(sys, "argv", [program, *options])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = command_line.run_main(PROGRAMS[program])
    print(printed.getvalue())
    assert status == 0, f"{program} {shlex.join(options)}"
    return printed.getvalue()


def list_recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile that are a line of their own and start a program of this project."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition(f"\n{target}:")[2].partition("\n\n")[0]
    return [f".venv/bin/python {words}" for words in re.findall(r"^\t\$\(PYTHON\) (.+)$", recipe, re.MULTILINE)]
