"""The real script killed, stopped and cut off in a write: the same command ends in the same bytes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, adapter_bytes, losses, read_json
from script_process import ScriptProcess
from script_runs import run_script, script_environment, start_script

from response_generator.training.checkpoints.checkpointing import find_last_checkpoint

LAST = "checkpoint-6"


def started(tiny, folder: Path, **changes) -> ScriptProcess:
    """The run of the fixture `trained`, started in `folder`."""
    return start_script("fine_tune_dpo.py", tiny.dpo(folder / "run", **changes), folder)


def once(happened: Callable[[], bool], process: ScriptProcess | subprocess.Popen) -> None:
    """Waits for something that the process does."""
    for _ in range(40_000):
        if happened():
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.005)
            pytest.fail(process.read_stderr() if isinstance(process, ScriptProcess) else process.stderr.read())
    pytest.fail("it never happened")


def logged(run: Path, lines: int) -> Callable[[], bool]:
    log = run / "log.jsonl"
    return lambda: log.exists() and log.read_text(encoding="utf-8").count("\n") >= lines


def assert_goes_on_to_the_same(tiny, folder: Path, trained, place: str) -> str:
    """Runs the same command again; returns what it printed."""
    again = run_script("fine_tune_dpo.py", tiny.dpo(folder / "run"), folder)
    assert again.returncode == 0, again.stderr
    assert f"resuming from {folder / 'run' / place}" in again.stdout
    assert adapter_bytes(folder / "run") == adapter_bytes(trained[0])
    assert losses(folder / "run") == losses(trained[0])
    resumed, whole = (read_json(run / "metrics.json") for run in (folder / "run", trained[0]))
    same = ("train_loss", "steps", "epoch", "last_quarter/rewards/margins", "eval_loss", "eval_rewards/accuracies")
    assert {key: resumed[key] for key in same} == {key: whole[key] for key in same}
    return again.stdout


def test_killed_between_two_checkpoints(trained, tiny, tmp_path):
    process = started(tiny, tmp_path)
    once(logged(tmp_path / "run", 3), process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "adapter").exists()
    newest = find_last_checkpoint(tmp_path / "run")
    assert_goes_on_to_the_same(tiny, tmp_path, trained, newest.name)


def test_killed_in_the_middle_of_writing_a_checkpoint(trained, tiny, tmp_path):
    """The optimizer's file is a pipe that nobody reads, so the write of the last checkpoint cannot come to its end."""
    process = started(tiny, tmp_path)
    once(logged(tmp_path / "run", 1), process)
    part = tmp_path / "run" / LAST
    part.mkdir()
    os.mkfifo(part / "optimizer.pt")
    once((part / "tokenizer_config.json").exists, process)
    process.kill()
    process.wait()
    said = assert_goes_on_to_the_same(tiny, tmp_path, trained, "checkpoint-4")
    assert f"{LAST}: writing it was interrupted; it is not used" in said


def test_killed_after_the_last_step(trained, tiny, tmp_path):
    process = started(tiny, tmp_path)
    once((tmp_path / "run" / LAST / "run.json").exists, process)
    process.kill()
    process.wait()
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert_goes_on_to_the_same(tiny, tmp_path, trained, LAST)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_saves_first(trained, tiny, tmp_path, how):
    process = started(tiny, tmp_path, wandb={"mode": "offline", "project": "test"})
    once(logged(tmp_path / "run", 1), process)
    process.send_signal(how)
    said = process.read_stderr()
    assert process.wait() == 130, said
    assert "Traceback" not in said
    saved = max((tmp_path / "run").glob("checkpoint-*"), key=lambda folder: folder.name)
    assert said.splitlines()[-1] == (f"interrupted: {saved} is saved; run the same command again to continue from it")
    if saved.name == LAST:
        pytest.fail("the run was over before the signal came; log fewer lines first")
    again = run_script(
        "fine_tune_dpo.py", tiny.dpo(tmp_path / "run", wandb={"mode": "offline", "project": "test"}), tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(trained[0])
    assert losses(tmp_path / "run") == losses(trained[0])
    tracked = [folder.name for folder in (tmp_path / "run" / "wandb").glob("offline-run-*")]
    assert len(tracked) == 2 and len({name.rpartition("-")[2] for name in tracked}) == 1  # one run, under one id


def test_terminated_while_loading_it_says_what_to_do(tiny, tmp_path):
    process = started(tiny, tmp_path)
    once((tmp_path / "run" / "args.json").exists, process)
    process.terminate()
    said = process.read_stderr()
    assert process.wait() == 130, said
    assert "interrupted: run the same command again" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("script", ["fine_tune_dpo.py", "evaluate.py"])
def test_ctrl_c_while_the_script_is_imported_leaves_no_traceback(tmp_path, script):
    # In the place of pydantic, which is imported first of all: a module that gets the signal, or else goes on.
    interrupted = "import os, signal; os.kill(os.getpid(), signal.SIGINT); os._exit(7)"
    (tmp_path / "pydantic.py").write_text(interrupted, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"],
        env=script_environment() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")  # a shell says 130
