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
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).is_file()] == []


def test_every_room_of_the_layout_exists_and_none_is_missing():
    layout = README.partition("## Layout")[2].partition("## ")[0]
    package = ROOT / "response_generator"
    files = [*package.glob("*.py"), *(package / "evaluation").glob("*.py")]
    rooms = {file.stem for file in files if file.stem not in ("__init__", "errors")}
    listed = set(re.findall(r"\b[a-z_]+\b", layout))
    assert rooms - listed == {"emotions"} - listed


@pytest.mark.parametrize("key", sorted({*DPOArguments.model_fields, *EvaluateArguments.model_fields}))
def test_every_argument_stands_in_the_table(key):
    assert f"| `{key}` |" in README


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"make (\w+)", README)) - {"sure"}
    assert {"demo", "test", "style"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
