"""Imports go one way, and what runs before torch is loaded does not import it."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "response_generator"
# Each folder imports those of earlier lines alone; folders of one line do not import each other.
LAYERS = [
    {"constants", "errors"},
    {"config"},
    {"runs"},
    {"reporting"},
    {"data"},
    {"modeling"},
    {"generation"},
    {"scoring"},
    {"training", "evaluation", "preferences"},
    {"cli"},
    {"programs"},
    {"export", "sft", "classifier", "explain", "library_reader", "chat", "demo"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate"}
WITHOUT_TORCH = [
    "config",
    "cli/data_preview.py",
    "runs/run_folder.py",
    "cli/command_line.py",
    "cli/preflight.py",
    "cli/gpu_requirements.py",
    "modeling/merge.py",
]
FILES = sorted(PACKAGE.rglob("*.py"))


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


def imported_inside_functions(file: Path) -> set[str]:
    return imported(file) - imported(file, top_level_alone=True)


@pytest.mark.parametrize("script", ["fine_tune_dpo.py", "response_generator/sft.py"])
def test_a_training_program_imports_one_module_after_its_checks(script):
    (module,) = imported_inside_functions(ROOT / script)
    assert module in ("response_generator.programs.dpo_run", "response_generator.programs.sft_run")


def test_what_runs_after_the_checks_imports_at_its_top():
    assert not any(imported_inside_functions(file) for file in (PACKAGE / "programs").glob("*.py"))


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_what_is_checked_first_imports_no_torch(place):
    for file in [PACKAGE / place] if place.endswith(".py") else sorted((PACKAGE / place).glob("*.py")):
        heavy = {name.split(".")[0] for name in imported(file, top_level_alone=True)} & HEAVY
        assert not heavy, file
