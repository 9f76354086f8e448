"""What the README names must exist."""

import re

import pytest
from conftest import ROOT

from response_generator.config.schema import DPOArguments, EvaluateArguments

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_path_exists():
    named = set(re.findall(r"[\w.-]+/[\w./-]*", re.sub(r"```.*?```", "", README)))
    ours = {path for path in named if path.startswith(("args/", "response_generator/", "tests/"))}
    assert len(ours) >= 5
    assert [path for path in sorted(ours) if not (ROOT / path).exists()] == []


def test_every_test_that_a_document_names_exists():
    named = set(re.findall(r"test_\w+\.py", (ROOT / "docs" / "wrong_input.md").read_text(encoding="utf-8")))
    assert len(named) > 10
    assert named <= {file.name for file in (ROOT / "tests").rglob("test_*.py")}


def test_every_module_of_the_layout_exists_and_none_is_missing():
    layout = README.partition("## Layout")[2].partition("## ")[0]
    modules = {file.stem for file in (ROOT / "response_generator").rglob("*.py")} - {"__init__", "__main__"}
    demo = {file.stem for file in (ROOT / "response_generator" / "demo").glob("*.py")}
    assert modules - demo <= set(re.findall(r"\b[a-z_]+\b", layout))


@pytest.mark.parametrize("key", sorted({*DPOArguments.model_fields, *EvaluateArguments.model_fields}))
def test_every_argument_stands_in_the_table(key):
    assert f"| `{key}` |" in README


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"make (\w+)", README)) - {"sure"}
    assert {"demo", "test", "style"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
