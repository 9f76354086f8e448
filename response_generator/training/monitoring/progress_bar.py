"""The one line that shows a training run while it trains; everything else that is printed appears above it."""

import logging
import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile
from transformers import TrainerCallback

from response_generator.data.pair_tokenization import global_batch_size
from response_generator.training.cost import device_memory

LOSS_METRIC = {"loss": "loss"}
WINDOW_LOG_LINES = 5  # over which the shown metrics are averaged
SECONDS_BETWEEN_LINES = 10  # where the output is a file, which keeps every line
SEPARATOR = "  "
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 10, 30


@contextmanager
def keep_other_output_above_bar() -> Iterator[None]:
    """Lets everything that is printed, warned and logged appear above the bar."""
    names = [name for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)]
    handlers = {handler for name in (None, *names) for handler in logging.getLogger(name).handlers}
    stdout, stderr = DummyTqdmFile(sys.stdout), DummyTqdmFile(sys.stderr)
    console = [
        (handler, handler.stream) for handler in handlers if vars(handler).get("stream") in (sys.stdout, sys.stderr)
    ]
    with redirect_stdout(stdout), redirect_stderr(stderr):
        for handler, _ in console:
            handler.setStream(stderr)
        try:
            yield
        finally:
            for handler, stream in console:
                handler.setStream(stream)


class ProgressBar(TrainerCallback):
    """Shows rows done, rows per second, time left, metrics and peak memory.

    In a terminal it is one line, which changes with every step. In a file it is a line at a logging step, at most every
    SECONDS_BETWEEN_LINES, and one at the end. The metrics are means of the last WINDOW_LOG_LINES log lines.

    Args:
        rows: in an epoch.
        unit: what the rows are, in the plural.
        metrics: the names in TRL's log and in the bar.
    """

    def __init__(self, rows: int, unit: str, metrics: dict[str, str]):
        self.rows = rows
        self.unit = unit
        self.metrics = metrics
        self.bar: tqdm | None = None
        self.status = ""
        self.output = ExitStack()
        self.is_shown = False

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        steps_per_epoch = math.ceil(self.rows / global_batch_size(args))
        self.total = round(state.max_steps / steps_per_epoch * self.rows)
        self.done_before = self.done = round(state.epoch * self.rows)
        self.started = self.printed = time.monotonic()
        self.printed_done: int | None = None
        self.is_shown = True
        if sys.stderr.isatty():
            self.bar = tqdm(total=self.total, bar_format="{desc}", file=sys.stderr, leave=True)
            self.output.enter_context(keep_other_output_above_bar())
            self.show(state)

    def on_epoch_begin(self, args, state, control, **kwargs):
        if self.is_shown and self.done == self.done_before:
            self.started = time.monotonic()  # after the first sample replies

    def on_step_end(self, args, state, control, **kwargs):
        if self.is_shown:
            self.done = round(state.epoch * self.rows)
            self.show(state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not (self.is_shown and logs and "loss" in logs):
            return
        if self.bar is not None:
            self.show(state)
        elif time.monotonic() - self.printed > SECONDS_BETWEEN_LINES:
            self.print_line(state)

    def on_train_end(self, args, state, control, **kwargs):
        if not self.is_shown:
            return
        self.is_shown = False
        self.output.close()
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        elif self.printed_done != self.done:
            self.print_line(state)

    @contextmanager
    def show_status(self, status: str, state) -> Iterator[None]:
        """Says what the run is doing while it takes no steps: in the bar, or as a line where there is no bar."""
        if self.bar is None:
            print(status, file=sys.stderr, flush=True)
        self.status = status
        self.show(state)
        try:
            yield
        finally:
            self.status = ""
            self.show(state)

    def show(self, state) -> None:
        if self.bar is not None:
            self.bar.set_description_str(self.format_line(state, shutil.get_terminal_size().columns - 1))

    def print_line(self, state) -> None:
        self.printed, self.printed_done = time.monotonic(), self.done
        print(self.format_line(state), file=sys.stderr, flush=True)

    def format_line(self, state, columns: int | None = None) -> str:
        """The line. What does not fit into `columns` is left out: first the bar, then the memory, then the metrics."""
        parts = [f"{self.done}/{self.total} {self.unit}"]
        rate = (self.done - self.done_before) / (time.monotonic() - self.started or 1)
        if self.status:
            parts.append(self.status)
        elif rate:
            parts += [
                f"{rate:.1f}/s" if rate >= 1 else f"{rate:.2f}/s",
                f"{tqdm.format_interval((self.total - self.done) / rate)} left",
            ]
        parts += [" ".join(self.format_metrics(state.log_history)), f"{device_memory.get_peak_bytes() / 1e9:.1f} GB"]
        parts = [part for part in parts if part]
        if columns is None:
            return SEPARATOR.join(parts)
        while len(SEPARATOR.join(parts)) > columns and len(parts) > 1:
            parts.pop()
        room = columns - len(SEPARATOR.join([*parts, ""]))
        if room >= MIN_BAR_COLUMNS:
            parts.insert(1, draw_bar(self.done / self.total, min(room, MAX_BAR_COLUMNS)))
        return SEPARATOR.join(parts)

    def format_metrics(self, log: list[dict]) -> Iterator[str]:
        for name, shown in self.metrics.items():
            values = [entry[name] for entry in log if name in entry][-WINDOW_LOG_LINES:]
            if values:
                mean = sum(values) / len(values)
                yield f"{shown} {mean:.0%}" if "accurac" in name else f"{shown} {mean:.3f}"


def draw_bar(share: float, columns: int) -> str:
    filled = min(columns, round(share * columns))
    return "█" * filled + "░" * (columns - filled)
