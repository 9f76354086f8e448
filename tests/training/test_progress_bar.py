"""The progress line: complete at 80 columns, whole whatever else is printed, and short in a file."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest

from response_generator.training.cost import device_memory
from response_generator.training.monitoring import progress_bar
from response_generator.training.monitoring.progress_bar import ProgressBar
from response_generator.training.training_method import DPO

ARGUMENTS = SimpleNamespace(per_device_train_batch_size=8, gradient_accumulation_steps=1, world_size=1)


class State(SimpleNamespace):
    is_world_process_zero = True

    def add(self, step: int, steps: int, loss: float, margin: float, accuracy: float) -> dict:
        """A step with a log line."""
        self.global_step, self.epoch = step, step / steps
        entry = {"loss": loss, "rewards/margins": margin, "rewards/accuracies": accuracy}
        self.log_history.append(entry)
        return entry


def start(rows: int, steps: int) -> tuple[ProgressBar, State]:
    state = State(max_steps=steps, epoch=0, global_step=0, log_history=[])
    bar = ProgressBar(rows, DPO.unit, DPO.bar_metrics)
    bar.on_train_begin(ARGUMENTS, state, None)
    bar.on_epoch_begin(ARGUMENTS, state, None)
    return bar, state


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """What a terminal shows: a carriage return goes back to the start of the line."""
        lines = []
        for written in self.getvalue().split("\n"):
            line = ""
            for part in written.split("\r"):
                line = part + line[len(part) :]
            lines.append(line.rstrip())
        return [line for line in lines if line]


@contextmanager
def terminal() -> Iterator[Terminal]:
    """An 80 column terminal to which both stdout and stderr go."""
    shown = Terminal()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown), redirect_stderr(shown):
        patch.setenv("COLUMNS", "80")
        patch.setattr(device_memory, "get_peak_bytes", lambda: 4.04e9)
        yield shown


def test_the_line_has_the_means_of_the_last_five_log_lines():
    with terminal() as shown:
        bar, state = start(rows=48, steps=6)
        for step in range(1, 7):
            entry = state.add(step, 6, loss=step, margin=0.1 * step, accuracy=step / 10)
            bar.on_step_end(ARGUMENTS, state, None)
            bar.on_log(ARGUMENTS, state, None, logs=entry)
        bar.on_train_end(ARGUMENTS, state, None)
    (line,) = shown.screen()
    assert line.startswith("48/48 pairs")
    assert line.endswith("00:00 left  loss 4.000 margin 0.400 acc 40%  4.0 GB")


def test_a_long_run_fits_80_columns(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: clock[0])
    with terminal():
        bar, state = start(rows=30_000, steps=3750)
        state.add(1543, 3750, loss=0.6934, margin=12.345, accuracy=0.723)
        bar.done = round(state.epoch * 30_000)
        clock[0] = 3000.0
        narrow, wide, narrowest = (bar.format_line(state, columns) for columns in (79, 160, 20))
        bar.on_train_end(ARGUMENTS, state, None)
    expected = ["12344/30000 pairs", "4.1/s", "1:11:30 left", "loss 0.693 margin 12.345 acc 72%", "4.0 GB"]
    assert narrow == "  ".join(expected[:4])  # the memory is what has no room
    assert wide.split("  ") == [expected[0], "█" * 12 + "░" * 18, *expected[1:]]
    assert narrowest == "12344/30000 pairs"


def test_nothing_that_is_printed_breaks_the_line():
    with terminal() as shown:
        logger = logging.getLogger("a_library")
        logger.addHandler(logging.StreamHandler(sys.stderr))  # as transformers and unsloth do when they are imported
        logger.addHandler(logging._StderrHandler(logging.ERROR))  # one that cannot be given another stream
        logger.propagate = False
        bar, state = start(rows=16, steps=2)
        print("printed by a library")
        print("printed in", end=" ")
        print("two parts")
        logger.warning("==((====))==  Unsloth\n   /|")
        print("warning: a health check", file=sys.stderr)
        entry = state.add(1, 2, loss=0.6, margin=0.1, accuracy=0.5)
        bar.on_step_end(ARGUMENTS, state, None)
        bar.on_log(ARGUMENTS, state, None, logs=entry)
        print("printed after a step")
        bar.on_train_end(ARGUMENTS, state, None)
        print("printed after training")
        logger.warning("logged after training")
    *lines, bar_line, printed, logged = shown.screen()
    assert lines == [
        "printed by a library",
        "printed in two parts",
        "==((====))==  Unsloth",
        "   /|",
        "warning: a health check",
        "printed after a step",
    ]
    assert bar_line.startswith("8/16 pairs")
    assert (printed, logged) == ("printed after training", "logged after training")


def test_the_bar_says_what_is_done_between_two_steps():
    with terminal() as shown:
        bar, state = start(rows=16, steps=2)
        state.add(1, 2, loss=0.6, margin=0.1, accuracy=0.5)
        bar.on_step_end(ARGUMENTS, state, None)
        with bar.show_status("writing replies …", state):
            print("a reply")
            *_, reply, during = shown.screen()
        after = shown.screen()[-1]
        with pytest.raises(RuntimeError), bar.show_status("writing replies …", state):
            raise RuntimeError
        after_error = shown.screen()[-1]
        bar.on_train_end(ARGUMENTS, state, None)
        with bar.show_status("writing the last replies …", state):
            last = shown.screen()[-1]
    assert reply == "a reply"
    assert during.startswith("8/16 pairs  ") and during.endswith(
        "  writing replies …  loss 0.600 margin 0.100 acc 50%  4.0 GB"
    )
    for line in (after, after_error):
        assert line.startswith("8/16 pairs") and " left  loss" in line and "replies" not in line
    assert last == "writing the last replies …"  # after the bar, which is not drawn again


def test_a_file_gets_a_line_for_what_is_done_between_two_steps(capsys):
    bar, state = start(rows=16, steps=2)
    with bar.show_status("writing replies …", state):
        assert capsys.readouterr().err == "writing replies …\n"
    assert capsys.readouterr().err == ""


def test_a_file_gets_few_lines(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: clock[0])
    bar, state = start(rows=8000, steps=1000)
    for step in range(1, 1001):
        clock[0] += 0.1
        entry = state.add(step, 1000, loss=0.6, margin=0.1, accuracy=0.5)
        bar.on_step_end(ARGUMENTS, state, None)
        bar.on_log(ARGUMENTS, state, None, logs=entry)
    bar.on_train_end(ARGUMENTS, state, None)
    bar.on_train_end(ARGUMENTS, state, None)  # as after an error
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10  # 100 seconds, and the end
    assert lines[0].startswith("808/8000 pairs  80.0/s  01:29 left  loss 0.600 margin 0.100 acc 50%")
    assert lines[-1].startswith("8000/8000 pairs")


def test_other_processes_show_nothing(capsys):
    state = State(max_steps=2, epoch=0, global_step=0, log_history=[], is_world_process_zero=False)
    bar = ProgressBar(16, DPO.unit, DPO.bar_metrics)
    for event in (bar.on_train_begin, bar.on_epoch_begin, bar.on_step_end, bar.on_train_end):
        event(ARGUMENTS, state, None)
    assert capsys.readouterr() == ("", "")
