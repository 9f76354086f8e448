"""Run folders: which may be used, and what is written into them."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, script_environment

from response_generator.errors import InputError
from response_generator.runs.run_folder import RunFolder, find_differing_keys

ARGUMENTS = {"seed": 1, "dpo": {"beta": 0.1}}


def test_a_new_folder_is_free_and_stays_unwritten(tmp_path):
    run = RunFolder.at(str(tmp_path / "a" / "b"), ARGUMENTS)
    assert run.find_errors() == []
    assert not (tmp_path / "a").exists()


def test_the_same_run_may_go_on_and_another_is_refused_by_its_keys(tmp_path):
    RunFolder(tmp_path, ARGUMENTS).write_json("args.json", ARGUMENTS)
    assert RunFolder(tmp_path, ARGUMENTS).find_errors() == []
    other = RunFolder(tmp_path, {"seed": 2, "dpo": {"beta": 0.2}, "new": None})
    assert other.find_errors() == []  # nothing was trained and nothing was said: a start that failed
    for result in ("log.jsonl", "predictions.jsonl"):
        (tmp_path / result).write_text("{}\n", encoding="utf-8")
        (message,) = other.find_errors()
        assert "holds another run; differing: dpo.beta, seed; name another folder" in message
        (tmp_path / result).unlink()


def test_a_start_with_other_arguments_leaves_nothing_of_the_one_that_failed(tmp_path):
    failed = RunFolder(tmp_path, ARGUMENTS)
    failed.start()
    failed.note_environment({"model": {"attention": "sdpa"}})
    again = RunFolder(tmp_path, {"seed": 2})
    again.start()
    assert json.loads((tmp_path / "args.json").read_text(encoding="utf-8")) == {"seed": 2}
    assert "model" not in json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))


def test_what_no_folder_can_become_is_told_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, reason in (
        ("file", "file: is a file"),
        ("file/run", "file: is a file"),
        ("link", "is a link to .*gone, which is not there"),
        ("link/run", "is a link to .*gone, which is not there"),
        ("loop/run", "is a link to .*loop, which is not there"),
    ):
        (message,) = RunFolder(tmp_path / name, ARGUMENTS).find_errors()
        assert re.search(f"^output_dir: .*{reason}; name a folder$", message)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine" and not (tmp_path / "gone").exists()
    (tmp_path / "there").mkdir()
    (tmp_path / "good").symlink_to(tmp_path / "there")
    assert RunFolder(tmp_path / "good" / "run", ARGUMENTS).find_errors() == []


HOLD = "import sys; from pathlib import Path; from response_generator.runs import run_lock; "
HOLD += "run_lock.acquire(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


def test_a_second_start_is_told_who_works_in_the_folder_until_that_process_dies(tmp_path):
    RunFolder(tmp_path, ARGUMENTS).write_json("args.json", ARGUMENTS)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=script_environment(), text=True, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        (message,) = RunFolder(tmp_path, ARGUMENTS).find_errors()
        assert re.search(rf"in use by process {first.pid} on \S+, started 20\d\d-.*; wait for its end", message)
        with pytest.raises(InputError, match=f"in use by process {first.pid} on"):
            RunFolder(tmp_path, ARGUMENTS).start()
        first.kill()
    assert RunFolder(tmp_path, ARGUMENTS).find_errors() == []
    RunFolder(tmp_path, ARGUMENTS).start()
    assert RunFolder(tmp_path, ARGUMENTS).find_errors() == []  # this process itself


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    (message,) = RunFolder(tmp_path, ARGUMENTS).find_errors()
    assert "not a run folder" in message


def test_a_place_that_cannot_be_written():
    (message,) = RunFolder.at("/proc/run", ARGUMENTS).find_errors()
    assert "cannot be written" in message


def test_finished_means_metrics_are_there(tmp_path):
    run = RunFolder(tmp_path, ARGUMENTS)
    assert not run.is_finished
    run.write_json("metrics.json", {})
    assert run.is_finished
    assert not list(tmp_path.glob("*.part"))


def test_start_writes_arguments_and_environment_without_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_test")
    monkeypatch.setenv("WANDB_API_KEY", "wandb_secret_of_test")
    run = RunFolder(tmp_path / "run", ARGUMENTS)
    run.start()
    run.note_environment({"model": {"attention": "sdpa"}})
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    assert environment["model"] == {"attention": "sdpa"}
    assert environment["packages"]["trl"] == "1.15.0"
    assert json.loads((run.path / "args.json").read_text(encoding="utf-8")) == ARGUMENTS
    assert not any("secret_of_test" in file.read_text(encoding="utf-8") for file in run.path.iterdir())


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [({"a": 1}, {"a": 1}, []), ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2}}, ["a.b", "a.c"]), ({}, {"a": 0}, ["a"])],
)
def test_differing_keys(one, other, keys):
    assert find_differing_keys(one, other) == keys
