"""Installing with pip: the commands, the files of the wheel, and the lines of docs/installation.md."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from documents import TEXTS

BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "requirements.txt", "fine_tune_dpo.py", "evaluate.py")
WITHOUT_NETWORK = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is built, because building writes into the folder that it builds from."""
    folder = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "response_generator", folder / "response_generator", ignore=ignored)
    return folder


def run(*command: object, cwd: Path, status: int = 0) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={"PATH": ""}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout or done.stderr


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(source, tmp_path):
    run(sys.executable, "-m", "pip", "wheel", *WITHOUT_NETWORK, "--wheel-dir", tmp_path, source, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read("response_generator-0.1.0.dist-info/METADATA").decode()
    files = {str(file.relative_to(source)) for file in (source / "response_generator").rglob("*") if file.is_file()}
    assert {Path(file).suffix for file in files} >= {".py", ".jinja", ".js", ".css", ".json", ".jsonl", ".safetensors"}
    assert files <= names
    assert {"fine_tune_dpo.py", "evaluate.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "args/"))]
    assert "License-Expression: Apache-2.0" in metadata
    required = re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)
    assert required == [line for line in read_requirements("requirements.txt") if line]


@pytest.mark.slow
def test_an_editable_installation_has_the_commands(source, tmp_path):
    """The environment is new but for the libraries, which it takes from the one of the tests."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    run(sys.executable, "-m", "pip", "--python", python, "install", *WITHOUT_NETWORK, "-e", source, cwd=tmp_path)
    for command, described in (
        ("fine-tune-dpo", "Aligns an adapter with DPO."),
        ("evaluate-dpo", "Evaluates an adapter, and a baseline beside it"),
    ):
        shown = run(environment / "bin" / command, "--help", cwd=tmp_path)
        assert shown.startswith(f"usage: {command} "), shown
        assert described in shown
        refused = run(environment / "bin" / command, "--json_file", "absent.json", cwd=tmp_path, status=2)
        assert refused.startswith("error: absent.json: cannot be read")
    place = run(python, "-c", "import response_generator; print(response_generator.__path__[0])", cwd=tmp_path)
    assert place.strip() == str(source / "response_generator")


def list_commands(heading: str) -> list[str]:
    """The commands of the first block under a heading of docs/installation.md."""
    section = TEXTS[ROOT / "docs" / "installation.md"].partition(f"\n## {heading}\n")[2]
    return re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()


@pytest.mark.parametrize("heading", ["With pip, without make", "With conda"])
def test_pip_installs_what_make_installs(heading):
    """But for the requirements of the tests; those of the programs are the package's own dependencies."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    by_make = re.findall(r"^\t\$\(PIP_INSTALL\) (.+)$", makefile, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (own,) = project["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    by_hand = [line.partition(" install ")[2] for line in list_commands(heading) if "/pip install" in line]
    assert [line.replace("-e .", f"-r {own} -r requirements-dev.txt") for line in by_hand] == by_make


def read_requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.partition("#")[0].strip() for line in lines]
