"""Warnings of a run that goes wrong, from TRL's logged metrics, each with its usual cause."""

import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from response_generator.data.tokenization import global_batch_size
from response_generator.runs import json_lines
from response_generator.training.step_files import drop_later_rows

EARLY_STEPS = 10
MAX_EARLY_MARGIN_NATS = 50.0  # a normal run needs hundreds of steps to reach a tenth of it
MAX_DROP_RATIO = 0.5  # relative to the reference's log-probability of `chosen`
MIN_DROP_NATS = 10.0
WINDOW_LOG_LINES = 5  # log lines
MIN_PAIRS = 200  # at chance, the accuracy over so many pairs is between 0.43 and 0.57 in 95 of 100 runs
MIN_ACCURACY_ABOVE_CHANCE = 0.05

Log = list[dict[str, Any]]


class TrainingHealthCallback(TrainerCallback):
    """Prints each warning once, and appends it to a file with its step, for the end of the run and its report."""

    def __init__(self, beta: float, file: Path):
        self.beta = beta
        self.file = file
        self.found: set[str] = set()

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.found = {row["check"] for row in drop_later_rows(self.file, state.global_step)}

    def on_log(self, args, state, control, logs=None, **kwargs):
        log = [entry for entry in state.log_history if "rewards/margins" in entry]
        if not log or not state.is_world_process_zero:
            return
        messages = {
            "margins": check_margin_explosion(log, self.beta),
            "chosen": check_likelihood_displacement(log, self.beta),
            "accuracy": check_no_learning(log, global_batch_size(args), args.learning_rate),
        }
        for check, message in messages.items():
            if message and check not in self.found:
                self.found.add(check)
                json_lines.append_jsonl(self.file, [{"step": state.global_step, "check": check, "message": message}])
                print(f"warning: {message}", file=sys.stderr)


def check_margin_explosion(log: Log, beta: float) -> str | None:
    """Reward margins that are large before anything can have been learned."""
    for entry in log:
        margin = entry["rewards/margins"] / beta
        if entry["step"] <= EARLY_STEPS and abs(margin) > MAX_EARLY_MARGIN_NATS:
            return (
                f"step {entry['step']}: the reward margin is already {margin:.0f} nats (before beta); the reference is "
                f"probably not what training started from (reference_adapter), or dpo.learning_rate is far too high"
            )
    return None


def check_likelihood_displacement(log: Log, beta: float) -> str | None:
    """Chosen replies that become much less likely, together with the rejected ones."""
    if len(log) < WINDOW_LOG_LINES:
        return None
    window = log[-WINDOW_LOG_LINES:]
    change = sum(entry["rewards/chosen"] for entry in window) / WINDOW_LOG_LINES / beta
    reference = sum(entry["logps/chosen"] for entry in window) / WINDOW_LOG_LINES - change
    if change > -max(MIN_DROP_NATS, MAX_DROP_RATIO * abs(reference)):
        return None
    return (
        f"step {window[-1]['step']}: the log-probability of chosen replies has fallen from {reference:.0f} to "
        f"{reference + change:.0f} nats: the model unlearns them together with the rejected ones. Lower "
        f'dpo.learning_rate, raise dpo.beta, or add "sft" to dpo.loss_type'
    )


def check_no_learning(log: Log, pairs_each_step: int, learning_rate: float) -> str | None:
    """Reward accuracy stuck at chance. The first step does not count, as nothing has changed yet."""
    later = [entry for entry in log if entry["step"] > 1]
    if not later or (later[-1]["step"] - 1) * pairs_each_step < MIN_PAIRS:
        return None
    share = sum(entry["rewards/accuracies"] for entry in later) / len(later)
    if share > 0.5 + MIN_ACCURACY_ABOVE_CHANCE:
        return None
    return (
        f"step {later[-1]['step']}: the reward accuracy is {share:.0%} so far, no better than chance. "
        f"Usual causes: dpo.learning_rate ({learning_rate:g}) is too small, chosen and rejected are too similar or "
        f"swapped in the data, or dpo.max_length cuts off the part in which they differ"
    )
