"""A failure of wandb or TensorBoard prints one line and never stops the run."""

import pytest
import wandb
from script_runs import run_here
from tensorboard_events import read_scalars

import evaluate
import fine_tune_dpo
from response_generator.cli import preflight
from response_generator.config.schema import WandbArguments
from response_generator.preferences import __main__ as preferences
from response_generator.runs.tracking import GO_ONLINE, Tracker


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


@pytest.mark.parametrize(
    ("variable", "netrc", "mode", "told"),
    [
        ("a key", None, "online", "wandb: online, because there is an API key"),
        ("", "machine api.wandb.ai login user password a_key", "online", "wandb: online, because there is an API key"),
        ("", "machine other.host login user password a_key", "offline", GO_ONLINE),
        ("", None, "offline", GO_ONLINE),
    ],
)
def test_auto_is_online_with_a_key_and_else_offline(variable, netrc, mode, told, tmp_path, monkeypatch, capsys):
    file = tmp_path / "netrc"
    if netrc:
        file.write_text(netrc + "\n", encoding="utf-8")
    monkeypatch.setenv("WANDB_API_KEY", variable)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.setattr(wandb, "init", lambda **keywords: keywords["mode"])
    settings = WandbArguments(mode="auto")
    assert preflight.find_wandb_errors(settings) == []
    assert bool(preflight.find_wandb_errors(WandbArguments(mode="online"))) == (mode == "offline")
    assert Tracker.start(settings, tmp_path, {}).run == mode
    assert capsys.readouterr().out == f"{told}\n"


class RecordingRun:
    """A wandb run that notes what it gets, and whether the program's run had already been marked as finished."""

    def __init__(self, folder):
        self.metrics_file, self.got = folder / "metrics.json", []
        self.summary = self

    def note(self, name: str) -> None:
        self.got.append((name, self.metrics_file.exists()))

    def log(self, values, step=None):
        self.note(f"log {', '.join(values)}")

    def update(self, values):
        self.note("summary")

    def finish(self):
        self.note("finish")


@pytest.mark.parametrize(
    ("program", "last"),
    [
        (evaluate, ["log predictions", *(f"log {name}" for name in ("emotions", "confusion", "quality", "lengths"))]),
        (fine_tune_dpo, ["log training"]),
        (preferences, [f"log {name}" for name in ("margins", "scores", "lengths")]),
    ],
)
def test_the_tracker_has_everything_before_the_run_is_marked_as_finished(program, last, tiny, tmp_path, monkeypatch):
    """After a kill in between, the same command feeds the tracker again."""
    run = RecordingRun(tmp_path / "run")
    monkeypatch.setattr(Tracker, "start", lambda *args: Tracker(run))
    name = "dpo" if program is fine_tune_dpo else "preferences" if program is preferences else "evaluate"
    assert run_here(program.main, getattr(tiny, name)(tmp_path / "run"), tmp_path) == 0
    assert run.metrics_file.exists()
    assert run.got[-len(last) - 2 :] == [(name, False) for name in (*last, "summary", "finish")]


def test_wandb_is_waited_for_for_a_limited_time(tmp_path, monkeypatch):
    """By default its finish() waits until everything is uploaded, however long the network is down."""
    monkeypatch.setattr(wandb, "init", lambda **keywords: keywords["settings"])
    settings = Tracker.start(WandbArguments(mode="offline", project="test"), tmp_path, {}).run
    assert (settings.finish_timeout, settings.finish_timeout_raises) == (300, True)
