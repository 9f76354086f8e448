"""What a start records of its code and packages, and what it says of changes since the last start."""

import json
import subprocess
from pathlib import Path

import pytest

from response_generator.runs import environment
from response_generator.runs.environment import describe_changes, find_checkout_commit
from response_generator.runs.run_folder import RunFolder


def make_repository(folder: Path) -> str:
    """A git repository with one commit; returns its id."""
    (folder / "file").write_text("1", encoding="utf-8")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    head = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()


@pytest.mark.slow
def test_the_commit_is_that_of_the_folder_and_not_of_a_repository_around_it(tmp_path, monkeypatch):
    commit = make_repository(tmp_path)
    installed = tmp_path / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert find_checkout_commit(tmp_path) == commit
    assert find_checkout_commit(installed) is None
    (tmp_path / "file").write_text("2", encoding="utf-8")
    assert find_checkout_commit(tmp_path) == f"{commit}+changes"
    (tmp_path / "other").mkdir()
    make_repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))  # as in a hook of another repository
    assert find_checkout_commit(tmp_path) == f"{commit}+changes"


def test_changed_packages_and_code_are_named():
    first = {"python": "3.11.4", "commit": "0123456789ab", "packages": {"torch": "2.1", "trl": "1.14.0"}}
    assert describe_changes(first, dict(first)) is None
    second = {"python": "3.12.1", "commit": "89abcdef0123+changes", "packages": {"torch": "2.1", "trl": "1.15.0"}}
    assert describe_changes(first, second) == (
        "Python 3.11.4 -> 3.12.1, trl 1.14.0 -> 1.15.0, this program's commit 01234567 -> 89abcdef+changes"
    )
    assert describe_changes(first, first | {"commit": None}) == "this program's commit 01234567 -> unknown"


def test_every_start_stays_in_the_list_and_changes_are_said_of_a_run_that_goes_on(tmp_path, monkeypatch, capsys):
    def start(trl: str) -> list[str]:
        facts = {"python": "3.11", "commit": "0123456789ab", "packages": {"trl": trl}, "processes": 1}
        monkeypatch.setattr(environment, "describe_environment", lambda: facts)
        RunFolder(tmp_path, {"seed": 1}, args_files=("base.json", "mine.json")).start()
        written = json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))
        assert written["packages"] == written["starts"][-1]["packages"] == {"trl": trl}
        assert written["starts"][-1]["args_files"] == ["base.json", "mine.json"]
        assert "starts" not in " ".join(RunFolder(tmp_path, {}).flatten_environment())  # too long for a report
        return [each["packages"]["trl"] for each in written["starts"]]

    assert start("1.14.0") == ["1.14.0"]
    assert start("1.15.0") == ["1.14.0", "1.15.0"]
    assert capsys.readouterr().out == ""  # no results yet that could depend on it
    (tmp_path / "log.jsonl").write_text("{}\n", encoding="utf-8")
    assert start("1.15.0") == ["1.14.0", "1.15.0", "1.15.0"]
    assert capsys.readouterr().out == ""
    assert start("1.16.0") == ["1.14.0", "1.15.0", "1.15.0", "1.16.0"]
    assert capsys.readouterr().out == "changed since the last start of this run: trl 1.15.0 -> 1.16.0\n"
