"""A failure of wandb or TensorBoard prints one line and never stops the run."""

import pytest
from tensorboard_events import read_scalars

from response_generator.config.schema import WandbArguments
from response_generator.runs.tracking import Tracker


class FailingRun:
    def log(self, *args, **kwargs):
        raise ConnectionError("network is down")

    summary = property(lambda self: self.log())
    finish = log


class FailingBoard:
    def add_scalar(self, *args):
        raise OSError("no space left on device")

    close = add_scalar


@pytest.mark.parametrize(
    "call",
    [
        lambda tracker, file: tracker.log({"loss": 1.0}, step=1),
        lambda tracker, file: tracker.log_table("t", ["a"], [[1]]),
        lambda tracker, file: tracker.log_image("i", file),
        lambda tracker, file: tracker.summarize({"loss": 1.0}),
        lambda tracker, file: tracker.finish(),
    ],
)
def test_a_failing_tracker_prints_one_line_and_is_not_used_again(call, tmp_path, capsys):
    tracker = Tracker(FailingRun())
    call(tracker, tmp_path / "missing.png")
    assert "the run goes on without tracking" in capsys.readouterr().err
    call(tracker, tmp_path / "missing.png")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("call", [lambda tracker: tracker.log({"loss": 1.0}, step=1), lambda tracker: tracker.finish()])
def test_a_failing_tensorboard_prints_one_line_and_is_not_used_again(call, capsys):
    tracker = Tracker(board=FailingBoard())
    call(tracker)
    told = "tensorboard: OSError: no space left on device; the run goes on without tracking\n"
    assert capsys.readouterr().err == told
    call(tracker)
    assert capsys.readouterr().err == ""


def test_tensorboard_that_cannot_start_is_told(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("a file in the place of the folder", encoding="utf-8")
    tracker = Tracker.start(WandbArguments(mode="disabled"), tmp_path, {}, tensorboard_from=0)
    assert tracker.board is None
    assert capsys.readouterr().err.startswith("tensorboard: FileExistsError")


def test_tensorboard_forgets_the_steps_that_a_resumed_run_takes_again(tmp_path):
    """As a run that was killed after step 3 and resumed from the checkpoint of step 2: its events were not closed."""
    first = Tracker.start(WandbArguments(mode="disabled"), tmp_path, {}, tensorboard_from=0)
    for step in (1, 2, 3):
        first.log({"loss": float(step), "not a number": "x"}, step=step)
    assert read_scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    resumed = Tracker.start(WandbArguments(mode="disabled"), tmp_path, {}, tensorboard_from=3)
    resumed.log({}, step=3)  # writes what there is
    assert read_scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0)]
    resumed.log({"loss": 3.5}, step=3)
    assert read_scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 3.5)]


def test_a_disabled_tracker_writes_nothing(tmp_path):
    tracker = Tracker.start(WandbArguments(mode="disabled"), tmp_path, {})
    tracker.log({"loss": 1.0})
    tracker.finish()
    assert not list(tmp_path.iterdir())


def test_an_offline_tracker_writes_into_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    tracker = Tracker.start(WandbArguments(mode="offline", project="test"), tmp_path, {"seed": 42})
    assert tracker.run.config["seed"] == 42
    tracker.log({"loss": 1.0}, step=1)
    tracker.log_table("rows", ["a", "b"], [[1, "x"]])
    tracker.finish()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
