"""Imports go one way, and what runs before torch is loaded does not import it."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "response_generator"
# Each folder imports those of earlier lines alone; folders of one line do not import each other.
LAYERS = [
    {"constants", "errors", "labels"},
    {"config"},
    {"runs"},
    {"reporting"},
    {"data"},
    {"modeling"},
    {"generation"},
    {"scoring"},
    {"training", "evaluation", "preferences"},
    {"cli"},
    {"chat", "demo", "blind_test", "rounds"},
    {"programs"},
    {"export", "sft", "classifier", "explain", "library_reader"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate"}
WITHOUT_TORCH = [
    "config",
    "config/rounds",
    "rounds/checks.py",
    "blind_test",
    "cli/data_preview.py",
    "runs/run_folder.py",
    "cli/command_line.py",
    "cli/preflight.py",
    "cli/gpu_requirements.py",
    "modeling/merge.py",
]
# Each checks its args first, and then imports one module of programs/
SCRIPTS = [ROOT / "fine_tune_dpo.py", ROOT / "evaluate.py"]
PROGRAMS = [*SCRIPTS, PACKAGE / "sft.py", PACKAGE / "classifier.py"]
PROGRAMS += [PACKAGE / name / "__main__.py" for name in ("preferences", "rounds", "chat", "demo", "blind_test")]
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 250
MAX_FILES_IN_A_FOLDER = 20
MAX_IMPORTS_IN_FUNCTIONS = 30  # for what loads torch or takes long, and is not always needed


def imported(file: Path, top_level_alone: bool = False) -> set[str]:
    """Full names of the modules that a file imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_alone else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def folder_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    here = folder_of(file)
    if here == "__init__" or file.name == "__main__.py":  # a program imports what it needs
        return
    own = [name.split(".")[1] for name in imported(file) if name.startswith("response_generator.")]
    backwards = {name for name in own if name != here and LEVEL[name] >= LEVEL[here]}
    assert not backwards


def test_every_folder_has_its_place():
    assert {folder_of(file) for file in FILES} - {"__init__"} == set(LEVEL)
    assert all(file.read_text(encoding="utf-8") == "" for file in FILES if file.name == "__init__.py")


def list_imports_in_functions(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    nodes = {node for function in functions for node in ast.walk(function)}
    return [ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_program_imports_one_module_after_its_checks(program):
    imports = list_imports_in_functions(program)
    assert imports and all(line.startswith("from response_generator.programs import ") for line in imports)


def test_what_runs_after_the_checks_imports_at_its_top():
    assert not any(list_imports_in_functions(file) for file in (PACKAGE / "programs").glob("*.py"))


def test_few_imports_stand_in_functions():
    found = {str(file): list_imports_in_functions(file) for file in [*SCRIPTS, *FILES]}
    assert sum(map(len, found.values())) <= MAX_IMPORTS_IN_FUNCTIONS, found


def test_files_are_short():
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not {file: count for file, count in lines.items() if count > MAX_LINES}


def test_folders_are_small():
    folders = Counter(file.parent for file in FILES)
    assert not {folder: count for folder, count in folders.items() if count > MAX_FILES_IN_A_FOLDER}


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_what_is_checked_first_imports_no_torch(place):
    for file in [PACKAGE / place] if place.endswith(".py") else sorted((PACKAGE / place).glob("*.py")):
        heavy = {name.split(".")[0] for name in imported(file, top_level_alone=True)} & HEAVY
        assert not heavy, file


def test_unsloth_is_imported_only_after_the_backend_was_chosen():
    """NOTICE says that backend "transformers" loads no file of unsloth. What writes the keywords imports it at once."""
    at_once = {
        file.name
        for file in FILES
        if {"unsloth", "unsloth_zoo"} & {name.split(".")[0] for name in imported(file, top_level_alone=True)}
    }
    assert at_once == {"library_reader.py"}
