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


class ProgressBar(TrainerCallback):
    """Shows pairs done, pairs per second, time left, and the latest loss, margin and accuracy."""

    def __init__(self, pairs: int):
        self.pairs = pairs  # in an epoch
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        steps_per_epoch = math.ceil(self.pairs / global_batch_size(args))
        self.bar = tqdm(
            total=round(state.max_steps / steps_per_epoch * self.pairs),
            initial=round(state.epoch * self.pairs),
            desc="training",
            unit="pair",
            dynamic_ncols=True,
        )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(round(state.epoch * self.pairs) - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is None or not logs or not {"loss", "rewards/margins"} <= set(logs):
            return
        self.bar.set_postfix(
            loss=f"{logs['loss']:.3f}",
            margin=f"{logs['rewards/margins']:.2f}",
            accuracy=f"{logs['rewards/accuracies']:.2f}",
        )

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
