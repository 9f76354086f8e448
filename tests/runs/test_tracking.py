"""A failure of wandb prints one line and never stops the run."""

import pytest

from response_generator.config.schema import WandbArguments
from response_generator.runs.tracking import Tracker


class FailingRun:
    def log(self, *args, **kwargs):
        raise ConnectionError("network is down")

    summary = property(lambda self: self.log())
    finish = log


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
