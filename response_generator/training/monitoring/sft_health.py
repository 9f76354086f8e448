"""Warnings of an SFT run that goes wrong, from TRL's logged metrics, each with its usual cause."""

import math
from itertools import accumulate

from transformers import TrainerState
from trl import SFTConfig

from response_generator.data.pair_tokenization import global_batch_size
from response_generator.training.monitoring.health import Log

CHECKED_LOSS_TYPE = "nll"  # the loss of the other type, dft, may rise while the replies become more likely

MIN_DIALOGUES = 500  # the loss of one dialogue differs from that of another by half a nat or more
MIN_FALL_RATIO = 0.01

MIN_WINDOW_LOG_LINES = 5
MIN_WINDOW_DIALOGUES = 100
MAX_RISE_NATS = 1.0

MIN_LATER_EVALUATIONS = 2  # after the best one
MAX_HELD_OUT_RISE_RATIO = 0.01

UNCHECKED_NOTE = (
    f"they know the loss {CHECKED_LOSS_TYPE} alone, one of them needs {MIN_DIALOGUES} dialogues, another one "
    f"{1 + MIN_LATER_EVALUATIONS} evaluations"
)


def find_sft_warnings(state: TrainerState, args: SFTConfig) -> dict[str, str | None]:
    """`{check: warning, or None}` of the log so far."""
    if args.loss_type != CHECKED_LOSS_TYPE:
        return {}
    log = [entry for entry in state.log_history if "loss" in entry]
    evaluations = [entry for entry in state.log_history if "eval_loss" in entry]
    dialogues_each_step = global_batch_size(args)
    return {
        "no_learning": check_no_learning(log, dialogues_each_step, state.max_steps, args.learning_rate),
        "divergence": check_divergence(log, dialogues_each_step, args.learning_rate),
        # With load_best_model_at_end the adapter of the lowest held-out loss is kept anyway.
        "overfitting": None if args.load_best_model_at_end else check_overfitting(log, evaluations),
    }


def check_no_learning(log: Log, dialogues_each_step: int, max_steps: int, learning_rate: float) -> str | None:
    """A loss that is hardly lower in the second half of the log lines than in the first half. Asked only after half of
    the steps, because a warmup comes first."""
    if len(log) < 2 or log[-1]["step"] < max_steps / 2 or log[-1]["step"] * dialogues_each_step < MIN_DIALOGUES:
        return None
    middle = len(log) // 2
    first, second = mean_loss(log[:middle]), mean_loss(log[middle:])
    if second < (1 - MIN_FALL_RATIO) * first:
        return None
    return (
        f"step {log[-1]['step']}: the training loss does not fall: {first:.3f} in the first half of the log lines, "
        f"{second:.3f} in the second. Usual causes: sft.learning_rate ({learning_rate:g}) is too small or far too "
        f"high, or the adapter had already learned these dialogues"
    )


def check_divergence(log: Log, dialogues_each_step: int, learning_rate: float) -> str | None:
    """A loss that has risen far above what it was."""
    if not log:
        return None
    steps_each_line = log[-1]["step"] / len(log)
    window = max(MIN_WINDOW_LOG_LINES, math.ceil(MIN_WINDOW_DIALOGUES / (steps_each_line * dialogues_each_step)))
    sums = list(accumulate((entry["loss"] for entry in log), initial=0.0))
    means = [(after - before) / window for before, after in zip(sums, sums[window:], strict=False)]
    if not means or means[-1] - min(means) <= MAX_RISE_NATS:
        return None
    return (
        f"step {log[-1]['step']}: the training loss has risen from {min(means):.3f} to {means[-1]:.3f} (means of "
        f"{window} log lines): sft.learning_rate ({learning_rate:g}) is too high. Lower it, or raise sft.warmup_steps"
    )


def check_overfitting(log: Log, evaluations: Log) -> str | None:
    """A held-out loss that has been rising since an earlier evaluation, while the training loss has fallen."""
    losses = {entry["step"]: entry["eval_loss"] for entry in evaluations}
    steps = sorted(losses)
    best = min(steps, key=losses.get, default=0)
    if sum(step > best for step in steps) < MIN_LATER_EVALUATIONS:
        return None
    lowest, latest = losses[best], losses[steps[-1]]
    then, now = (select_lines_before(log, steps, step) for step in (best, steps[-1]))
    if latest <= (1 + MAX_HELD_OUT_RISE_RATIO) * lowest or not then or not now or mean_loss(now) >= mean_loss(then):
        return None
    return (
        f"step {steps[-1]}: the held-out loss has risen from {lowest:.3f} at step {best} to {latest:.3f}, while the "
        f"training loss fell from {mean_loss(then):.3f} to {mean_loss(now):.3f}: the adapter overfits. "
        f"sft.load_best_model_at_end: true keeps the adapter of the best step, and sft.early_stopping_patience stops "
        f"soon after it; or lower sft.num_train_epochs or sft.learning_rate"
    )


def select_lines_before(log: Log, evaluated_steps: list[int], step: int) -> Log:
    """The log lines between the evaluation at a step and the one before it."""
    start = max((earlier for earlier in evaluated_steps if earlier < step), default=0)
    return [entry for entry in log if start < entry["step"] <= step]


def mean_loss(entries: Log) -> float:
    return sum(entry["loss"] for entry in entries) / len(entries)
