"""requirements.txt: what this project imports stands apart from what is only pinned, and nothing else is pinned."""

import ast
import re
from importlib import metadata

from conftest import ROOT
from packaging.requirements import Requirement

LIBRARIES = {"unsloth", "unsloth-zoo"}  # of requirements-no-deps.txt
EXTRAS = {("fsspec", "http")}  # datasets asks for it


def to_name(package: str) -> str:
    """The normalized name of a package: https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", package).lower()


def read_parts() -> list[set[str]]:
    """The names in each part of requirements.txt: imported, used without an import, unsloth's, pulled in."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    parts = [{to_name(name) for name in re.findall(r"^([\w.-]+)==", part, re.MULTILINE)} for part in text.split("\n\n")]
    return [part for part in parts if part]


def list_imported() -> set[str]:
    packages = metadata.packages_distributions()
    files = [ROOT / "fine_tune_dpo.py", ROOT / "evaluate.py", *(ROOT / "response_generator").rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {to_name(package) for module in modules for package in packages.get(module.partition(".")[0], ())}


def list_requirements(package: str, extra: str = "") -> set[str]:
    found = map(Requirement, metadata.requires(package) or ())
    return {to_name(each.name) for each in found if each.marker is None or each.marker.evaluate({"extra": extra})}


def test_the_first_part_is_what_this_project_imports():
    imported, *_ = read_parts()
    assert list_imported() - LIBRARIES == imported


def test_every_other_pin_is_asked_for_or_named_with_its_reason():
    imported, without_import, of_unsloth, pulled_in = read_parts()
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    reasons = "".join(re.findall(r"^#.*$", text, re.MULTILINE))
    assert all(name in reasons for name in without_import)
    asked_for = {name for library in LIBRARIES for name in list_requirements(library)}
    assert of_unsloth <= asked_for
    listed = imported | without_import | of_unsloth | pulled_in
    needed = {name for package in listed for name in list_requirements(package)}
    needed |= {name for package, extra in EXTRAS for name in list_requirements(package, extra)}
    assert pulled_in - needed == set()
    assert needed - listed == list_requirements("torch") - listed  # the CUDA libraries, which torch pins itself
    left_out = {"tyro", "hf-transfer", "diffusers", "json5", "nest-asyncio", "structlog", "msgspec"}
    assert asked_for - listed - LIBRARIES <= left_out | {"xformers", "triton"}  # triton is torch's, xformers a GPU's
    assert all(name.replace("-", "_") in reasons.replace("-", "_") for name in left_out)
