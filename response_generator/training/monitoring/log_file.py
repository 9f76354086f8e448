"""The callback that writes log.jsonl and tells the tracker."""

import time
from pathlib import Path

from transformers import TrainerCallback

from response_generator.runs import json_lines
from response_generator.runs.tracking import Tracker
from response_generator.training.monitoring.step_files import drop_later_rows, to_log_row


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
        kept = drop_later_rows(self.file, state.global_step)
        self.file.touch()
        self.started = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)

    def on_log(self, args, state, control, logs=None, **kwargs):
        # Not logged here, but in metrics.json: the final summary, which counts only this start of the run, and the last
        # evaluation, which may be of the adapter of an earlier step.
        if not (state.is_world_process_zero and self.training and logs) or "train_loss" in logs:
            return
        # Its entry in the history of the next checkpoint, from which a log that has lost lines is completed.
        entry = state.log_history[-1]
        entry["seconds"] = round(time.monotonic() - self.started, 3)
        json_lines.append_jsonl(self.file, [to_log_row(entry)])
        self.tracker.log(logs, step=state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        self.training = False
