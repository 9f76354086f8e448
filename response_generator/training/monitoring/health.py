"""The callback that warns of a run that goes wrong."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from response_generator.runs import json_lines
from response_generator.training.monitoring.step_files import drop_later_rows

Log = list[dict[str, Any]]


class TrainingHealthCallback(TrainerCallback):
    """Prints each warning once, and appends it to a file with its step, for the end of the run and its report.

    Args:
        find_warnings: takes transformers' state and arguments; returns `{check: warning, or None}` of the log so far.
        file: where the warnings are written.
    """

    def __init__(self, find_warnings: Callable[[TrainerState, Any], dict[str, str | None]], file: Path):
        self.find_warnings = find_warnings
        self.file = file
        self.found: set[str] = set()

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.found = {row["check"] for row in drop_later_rows(self.file, state.global_step)}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero:
            return
        for check, message in self.find_warnings(state, args).items():
            if message and check not in self.found:
                self.found.add(check)
                json_lines.append_jsonl(self.file, [{"step": state.global_step, "check": check, "message": message}])
                print(f"warning: {message}", file=sys.stderr)
