"""Run folders: which ones a run may use, and what is written into them."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from script_runs import script_environment

from response_generator.config.section import Section
from response_generator.errors import InputError
from response_generator.runs import environment
from response_generator.runs.run_folder import RunFolder, find_differing_keys

ARGUMENTS = {"seed": 1, "dpo": {"beta": 0.1}}


def test_a_new_folder_may_be_used_and_is_not_created_by_the_check(tmp_path):
    run = RunFolder(tmp_path / "a" / "b", ARGUMENTS)
    assert run.find_errors() == []
    assert not (tmp_path / "a").exists()


def test_a_folder_with_results_is_refused_to_other_arguments(tmp_path):
    RunFolder(tmp_path, ARGUMENTS).write_json("args.json", ARGUMENTS)
    assert RunFolder(tmp_path, ARGUMENTS).find_errors() == []
    other = RunFolder(tmp_path, {"seed": 2, "dpo": {"beta": 0.2}, "new": None})
    assert other.find_errors() == []  # no results: the earlier start failed
    for result in ("log.jsonl", "predictions.jsonl"):
        (tmp_path / result).write_text("{}\n", encoding="utf-8")
        (message,) = other.find_errors()
        assert "holds another run; differing: dpo.beta, new, seed; name another folder" in message
        (tmp_path / result).unlink()
    (tmp_path / "checkpoint-best").mkdir()  # a user's own
    assert other.find_errors() == []
    (tmp_path / "checkpoint-2").mkdir()
    assert "holds another run" in other.find_errors()[0]


class DataArguments(Section):
    path: str
    limit: int | None = None


class RunArguments(Section):
    seed: int
    dataset: DataArguments
    scoring: DataArguments = DataArguments(path="x")
    count: int = 3


def test_keys_that_an_earlier_version_did_not_have_make_no_other_run_at_their_defaults(tmp_path):
    earlier = {"seed": 1, "dataset": {"path": "a"}}
    RunFolder(tmp_path, earlier).write_json("args.json", earlier)
    (tmp_path / "log.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "wandb_id").write_text("1", encoding="utf-8")

    def open_run(**changes) -> RunFolder:
        arguments = RunArguments(**{"seed": 1, "dataset": {"path": "a"}} | changes)
        return RunFolder(tmp_path, arguments.model_dump(mode="json"), RunArguments)

    assert open_run().find_errors() == []
    for changes, key in (
        ({"dataset": {"path": "a", "limit": 5}}, "dataset.limit"),
        ({"count": 4}, "count"),
        ({"scoring": {"path": "y"}}, "scoring.path"),
        ({"seed": 2}, "seed"),
    ):
        (message,) = open_run(**changes).find_errors()
        assert f"holds another run; differing: {key}; name another folder" in message
    open_run().start()
    assert (tmp_path / "wandb_id").exists()  # the run goes on
    assert json.loads((tmp_path / "args.json").read_text(encoding="utf-8")) == open_run().arguments


def test_a_key_that_no_longer_exists_makes_another_run(tmp_path):
    earlier = {"seed": 1, "dataset": {"path": "a", "gone": None}}
    RunFolder(tmp_path, earlier).write_json("args.json", earlier)
    (tmp_path / "log.jsonl").write_text("{}\n", encoding="utf-8")
    arguments = RunArguments(seed=1, dataset=DataArguments(path="a")).model_dump(mode="json")
    (message,) = RunFolder(tmp_path, arguments, RunArguments).find_errors()
    assert "differing: dataset.gone;" in message


def test_a_start_with_other_arguments_removes_the_files_of_a_failed_start(tmp_path):
    failed = RunFolder(tmp_path, ARGUMENTS)
    failed.start()
    failed.note_environment({"model": {"attention": "sdpa"}})
    again = RunFolder(tmp_path, {"seed": 2})
    again.start()
    assert json.loads((tmp_path / "args.json").read_text(encoding="utf-8")) == {"seed": 2}
    assert "model" not in json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))


def test_files_and_broken_links_are_refused_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, reason in (
        ("file", "file: is a file"),
        ("file/run", "file: is a file"),
        ("link", "is a link to .*gone, which does not exist"),
        ("link/run", "is a link to .*gone, which does not exist"),
        ("loop/run", "is a link to .*loop, which does not exist"),
    ):
        (message,) = RunFolder(tmp_path / name, ARGUMENTS).find_errors()
        assert re.search(f"^output_dir: .*{reason}; name a folder$", message)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine" and not (tmp_path / "gone").exists()
    (tmp_path / "there").mkdir()
    (tmp_path / "good").symlink_to(tmp_path / "there")
    assert RunFolder(tmp_path / "good" / "run", ARGUMENTS).find_errors() == []


HOLD_LOCK_CODE = "import sys; from pathlib import Path; from response_generator.runs import run_lock; "
HOLD_LOCK_CODE += "run_lock.acquire(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


@pytest.mark.slow
def test_a_folder_in_use_is_refused_until_the_other_process_ends(tmp_path):
    RunFolder(tmp_path, ARGUMENTS).write_json("args.json", ARGUMENTS)
    command = [sys.executable, "-c", HOLD_LOCK_CODE, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=script_environment(), text=True, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        (message,) = RunFolder(tmp_path, ARGUMENTS).find_errors()
        assert re.search(rf"in use by process {first.pid} on \S+, started 20\d\d-.*; wait until it ends", message)
        with pytest.raises(InputError, match=f"in use by process {first.pid} on"):
            RunFolder(tmp_path, ARGUMENTS).start()
        first.kill()
    assert RunFolder(tmp_path, ARGUMENTS).find_errors() == []
    RunFolder(tmp_path, ARGUMENTS).start()
    assert RunFolder(tmp_path, ARGUMENTS).find_errors() == []  # this process itself


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_file_that_is_a_link_is_refused_and_what_it_leads_to_is_kept(tmp_path, link):
    thesis, run = tmp_path / "thesis.txt", RunFolder(tmp_path / "run", ARGUMENTS)
    thesis.write_text("mine", encoding="utf-8")
    run.path.mkdir()
    link(thesis, run.path / "run.lock")
    (message,) = run.find_errors()
    assert message.startswith(f"output_dir: {run.path / 'run.lock'}: is a link or no file, so locking the folder would")
    with pytest.raises(InputError, match="is a link or no file"):
        run.start()
    assert thesis.read_text(encoding="utf-8") == "mine"


@contextmanager
def without_privileges():
    """As another user than root, for whom no file permission counts."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_finished_run_that_cannot_be_written_to_is_recognized():
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which another user may not enter
        run = RunFolder(Path(folder), ARGUMENTS)
        run.write_json("args.json", ARGUMENTS)
        run.write_json("metrics.json", {})
        os.chmod(folder, 0o555)
        with without_privileges():
            assert run.find_errors(keeps_finished=True) == []
            (message,) = RunFolder(run.path, {"seed": 2}).find_errors(keeps_finished=True)
            assert "holds another run; differing: dpo, seed; name another folder" in message
            (message,) = run.find_errors()  # a program that would write
            assert "cannot be written to (Permission denied)" in message
        os.chmod(folder, 0o755)
        (run.path / "metrics.json").unlink()
        os.chmod(folder, 0o555)
        with without_privileges():
            assert "cannot be written to" in run.find_errors(keeps_finished=True)[0]
        os.chmod(folder, 0o755)


def test_a_folder_that_is_no_run_folder_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    (message,) = RunFolder(tmp_path, ARGUMENTS).find_errors()
    assert "not a run folder" in message


def test_a_folder_that_cannot_be_written_to_is_refused():
    (message,) = RunFolder(Path("/proc/run"), ARGUMENTS).find_errors()
    assert "cannot be written" in message


def test_a_run_is_finished_when_metrics_json_exists(tmp_path):
    run = RunFolder(tmp_path, ARGUMENTS)
    assert not run.is_finished
    run.write_json("metrics.json", {})
    assert run.is_finished
    assert not list(tmp_path.glob("*.part"))


def test_a_finished_run_whose_model_was_deleted_says_so(tmp_path):
    run = RunFolder(tmp_path, ARGUMENTS)
    finished = f"{tmp_path} is finished and is kept: see metrics.json there"
    text = run.describe_finished("metrics.json", "adapter")
    assert text.startswith(f"{finished}\nbut {tmp_path / 'adapter'} is no longer there; to write it")
    (tmp_path / "adapter").mkdir()
    assert run.describe_finished("metrics.json", "adapter") == finished


def test_a_finished_run_names_the_commit_that_it_was_made_at_where_it_is_another_one(tmp_path, monkeypatch):
    here = "89abcdef0123"
    monkeypatch.setattr(environment, "find_checkout_commit", lambda: here)
    run = RunFolder(tmp_path, ARGUMENTS)
    finished = f"{tmp_path} is finished and is kept: see metrics.json there"
    for commit in (None, here):
        run.write_json("environment.json", {"commit": commit})
        assert run.describe_finished("metrics.json") == finished
    run.write_json("environment.json", {"commit": "0123456789abcdef+changes"})
    hint = "it was made at commit 01234567+changes, this checkout is at 89abcdef; "
    hint += "to make it anew, name another output_dir"
    assert run.describe_finished("metrics.json") == f"{finished}\n{hint}"


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
    ("old", "new", "keys"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2}}, ["a.b", "a.c"]),
        ({}, {"a": 0}, ["a"]),
        ({"a": None}, {}, ["a"]),
    ],
)
def test_differing_keys_are_found_in_sections_too(old, new, keys):
    assert find_differing_keys(old, new) == keys


def test_a_start_that_ended_while_another_prepared_its_data_keeps_its_results(tmp_path):
    folder = tmp_path / "run"
    slow, quick = RunFolder(folder, {"seed": 1}), RunFolder(folder, {"seed": 2})
    assert slow.find_errors() == quick.find_errors() == []
    quick.start()
    (folder / "log.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds another run; differing: seed; name another folder"):
        slow.start()
    assert json.loads((folder / "args.json").read_text(encoding="utf-8")) == {"seed": 2}


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"starts": null}', '{"weights": []}', '{"weights": {"adapter": "1"}}', '{"packages": []}'],
)
def test_a_damaged_environment_is_named_and_the_run_goes_on_without_it(tmp_path, content):
    run = RunFolder(tmp_path, ARGUMENTS)
    run.start()
    (tmp_path / "log.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "environment.json").write_text(content, encoding="utf-8")
    (message,) = run.find_errors()
    assert message.startswith(f"output_dir: {tmp_path / 'environment.json'}: ")
    assert message.endswith("restore it, or delete it: then nothing is known of the run's weights and earlier starts")
    (tmp_path / "environment.json").unlink()
    assert run.find_errors() == []
    run.start()


def test_a_run_that_was_moved_is_no_copy_and_gets_no_other_wandb_run(tmp_path, capsys):
    def start(folder: Path) -> str:
        RunFolder(folder, {"output_dir": str(folder)}).start()
        return capsys.readouterr().out

    first, copy, link, moved = (tmp_path / name for name in ("first", "copy", "link", "moved"))
    start(first)
    for name in ("log.jsonl", "wandb_id"):
        (first / name).write_text("{}\n", encoding="utf-8")
    shutil.copytree(first, copy)
    assert start(copy) == f"this run is a copy of {first}\n"
    assert not (copy / "wandb_id").exists()
    link.symlink_to(first)
    assert start(link) == ""  # the same folder
    first.rename(moved)
    link.unlink()
    assert start(moved) == f"this run was moved here from {link}\n"
    assert (moved / "wandb_id").exists()
