"""Signs of a run that goes wrong, read from TRL's metrics, each told once with its usual cause."""

import sys
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from response_generator.data.tokenization import global_batch_size

EARLY_STEPS = 10
MAX_EARLY_MARGIN_NATS = 50.0  # nats between the replies of a pair; a sound run takes hundreds of steps to a tenth of it
MAX_DROP_RATIO = 0.5  # of the reference's log-probability of `chosen`
MIN_DROP_NATS = 10.0
WINDOW_LOG_LINES = 5  # log lines
MIN_PAIRS = 200  # the share of a fair coin over so many lies within 0.43 and 0.57 in 95 of 100 runs
MIN_ACCURACY_ABOVE_CHANCE = 0.05

Log = list[dict[str, Any]]


class TrainingHealthCallback(TrainerCallback):
    """Tells each finding once, when it is made, and keeps it for the end."""

    def __init__(self, beta: float):
        self.beta = beta
        self.findings: dict[str, str] = {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        log = [entry for entry in state.log_history if "rewards/margins" in entry]
        if not log or not state.is_world_process_zero:
            return
        found = {
            "margins": check_margin_explosion(log, self.beta),
            "chosen": check_likelihood_displacement(log, self.beta),
            "accuracy": check_no_learning(log, global_batch_size(args), args.learning_rate),
        }
        for name, words in found.items():
            if words and name not in self.findings:
                self.findings[name] = words
                tqdm.write(f"\nwarning: {words}", file=sys.stderr)


def check_margin_explosion(log: Log, beta: float) -> str | None:
    """Margins that are large before anything can have been learned."""
    for entry in log:
        margin = entry["rewards/margins"] / beta
        if entry["step"] <= EARLY_STEPS and abs(margin) > MAX_EARLY_MARGIN_NATS:
            return (
                f"step {entry['step']}: chosen and rejected are already {margin:.0f} nats apart from the reference's "
                f"view of them; the reference is probably not what training started from (reference_adapter), or "
                f"dpo.learning_rate is far too high"
            )
    return None


def check_likelihood_displacement(log: Log, beta: float) -> str | None:
    """The chosen replies becoming unlikely along with the rejected ones."""
    if len(log) < WINDOW_LOG_LINES:
        return None
    window = log[-WINDOW_LOG_LINES:]
    change = sum(entry["rewards/chosen"] for entry in window) / WINDOW_LOG_LINES / beta
    reference = sum(entry["logps/chosen"] for entry in window) / WINDOW_LOG_LINES - change
    if change > -max(MIN_DROP_NATS, MAX_DROP_RATIO * abs(reference)):
        return None
    return (
        f"step {window[-1]['step']}: the log-probability of chosen replies has fallen from {reference:.0f} to "
        f"{reference + change:.0f} nats; the model forgets them along with the rejected ones. Lower "
        f'dpo.learning_rate, raise dpo.beta, or add "sft" to dpo.loss_type'
    )


def check_no_learning(log: Log, pairs_each_step: int, learning_rate: float) -> str | None:
    """A preference that stays a coin's after many pairs; the first step, where nothing has changed yet, is no sign."""
    later = [entry for entry in log if entry["step"] > 1]
    if not later or (later[-1]["step"] - 1) * pairs_each_step < MIN_PAIRS:
        return None
    share = sum(entry["rewards/accuracies"] for entry in later) / len(later)
    if share > 0.5 + MIN_ACCURACY_ABOVE_CHANCE:
        return None
    return (
        f"step {later[-1]['step']}: chosen is preferred in {share:.0%} of the pairs so far, no more than by chance. "
        f"Usual causes: dpo.learning_rate ({learning_rate:g}) is too small, chosen and rejected are alike or swapped "
        f"in the data, or dpo.max_length cuts off what tells them apart"
    )
