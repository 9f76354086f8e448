"""Warnings of a DPO run that goes wrong, from TRL's logged metrics, each with its usual cause."""

from transformers import TrainerState
from trl import DPOConfig

from response_generator.data.pair_tokenization import global_batch_size
from response_generator.training.monitoring.health import Log

EARLY_STEPS = 10
MAX_EARLY_MARGIN_NATS = 50.0  # a normal run needs hundreds of steps to reach a tenth of it
MAX_DROP_RATIO = 0.5  # relative to the reference's log-probability of `chosen`
MIN_DROP_NATS = 10.0
WINDOW_LOG_LINES = 5  # log lines
MIN_PAIRS = 200  # at chance, the accuracy over so many pairs is between 0.43 and 0.57 in 95 of 100 runs
MIN_ACCURACY_ABOVE_CHANCE = 0.05

UNCHECKED_NOTE = f"one of them needs {WINDOW_LOG_LINES} lines of the log, and one {MIN_PAIRS} pairs"


def find_dpo_warnings(state: TrainerState, args: DPOConfig) -> dict[str, str | None]:
    """`{check: warning, or None}` of the log so far."""
    log = [entry for entry in state.log_history if "rewards/margins" in entry]
    return {
        "margins": check_margin_explosion(log, args.beta),
        "chosen": check_likelihood_displacement(log, args.beta),
        "accuracy": check_no_learning(log, global_batch_size(args), args.learning_rate),
    }


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
