"""Callbacks that report a training run: log.jsonl, the tracker, the progress bar."""

import json
import math
import time
from pathlib import Path

from tqdm.auto import tqdm
from transformers import TrainerCallback

from response_generator.data.tokenization import global_batch_size
from response_generator.runs import json_lines
from response_generator.runs.tracking import Tracker


def read_log(file: Path) -> list[dict]:
    """The entries of a log.jsonl, up to a line that was cut off; empty where there is no file."""
    entries = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


class LogFile(TrainerCallback):
    """Appends one JSON object per logging step to log.jsonl, with TRL's metric names, and sends it to the tracker."""

    def __init__(self, file: Path, tracker: Tracker):
        self.file = file
        self.tracker = tracker
        self.started = time.monotonic()
        self.training = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.training = True
        if not state.is_world_process_zero:
            return
        # A resumed run takes the steps after its checkpoint again, so their lines are removed.
        kept = [entry for entry in read_log(self.file) if entry["step"] <= state.global_step]
        json_lines.write_jsonl(self.file, kept)
        if kept:
            self.started = time.monotonic() - kept[-1]["seconds"]

    def on_log(self, args, state, control, logs=None, **kwargs):
        # Not logged here, but in metrics.json: the final summary, which counts only this start of the run, and the last
        # evaluation, which may be of the adapter of an earlier step.
        if not (state.is_world_process_zero and self.training and logs) or "train_loss" in logs:
            return
        entry = {"step": state.global_step, "seconds": round(time.monotonic() - self.started, 3), **logs}
        json_lines.append_jsonl(self.file, [entry])  # with fsync, so a later checkpoint never lacks earlier lines
        self.tracker.log(logs, step=state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        self.training = False


DPO_METRICS = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
SFT_METRICS = {"loss": "loss"}


class ProgressBar(TrainerCallback):
    """Shows rows done, rows per second, time left, and the latest metrics.

    Args:
        rows: in an epoch.
        unit: what a row is.
        metrics: the names in TRL's log and in the bar.
    """

    def __init__(self, rows: int, unit: str, metrics: dict[str, str]):
        self.rows = rows
        self.unit = unit
        self.metrics = metrics
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        steps_per_epoch = math.ceil(self.rows / global_batch_size(args))
        self.bar = tqdm(
            total=round(state.max_steps / steps_per_epoch * self.rows),
            initial=round(state.epoch * self.rows),
            desc="training",
            unit=self.unit,
            dynamic_ncols=True,
        )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(round(state.epoch * self.rows) - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is None or not logs or not set(self.metrics) <= set(logs):
            return
        self.bar.set_postfix({shown: f"{logs[name]:.3f}" for name, shown in self.metrics.items()})

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
