"""Runs a trainer to its end, from its last checkpoint where there is one, and computes the metrics of the run."""

import shutil
import time
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase, TrainerState

from response_generator.constants import POLICY_ADAPTER
from response_generator.errors import RunError
from response_generator.modeling.adapters import write_adapter
from response_generator.modeling.tokenizer import TOKENIZER_FILE
from response_generator.runs import atomic_files
from response_generator.training.checkpoints import checkpoint_files, checkpointing
from response_generator.training.checkpoints.checkpointed_trainer import CheckpointedTrainer
from response_generator.training.checkpoints.graceful_stop import GracefulStopCallback
from response_generator.training.cost import device_memory
from response_generator.training.monitoring import step_files
from response_generator.training.monitoring.step_files import LOG_FILE

SESSION_METRIC_SUFFIXES = (
    "_per_second",
    "_runtime",
    "_preparation_time",
    "_num_tokens",
)  # of an evaluation, not of its result
LAST_QUARTER = "last_quarter/"  # before TRL's name of a metric
AVERAGED = ("loss", "mean_token_accuracy", "rewards/", "logps/")  # the beginnings of such names


def train(trainer: CheckpointedTrainer, rows: str = "pairs") -> dict[str, float]:
    """Trains, from the last complete checkpoint where there is one, then evaluates the held-out rows.

    Args:
        rows: what the rows of the training data are.

    Returns:
        `train_loss` (mean over all steps, also those before a resumption), `last_quarter/*` (means of TRL's logged
        metrics over the last quarter of the steps), `eval_*` of the held-out rows, `ROWS_per_second` and
        `train_seconds` of this start, and peak memory in GB.

    Raises:
        KeyboardInterrupt: after a signal; the message names the checkpoint that was saved.
        RunError: when a checkpoint cannot be written, or a loss or gradient is not finite.
    """
    run = Path(trainer.args.output_dir)
    checkpoint = find_resume_checkpoint(trainer, run)
    if checkpoint and trainer.is_world_process_zero():
        step_files.restore_log(run / LOG_FILE, read_state(checkpoint).log_history)
    earlier_epochs = read_state(checkpoint).epoch if checkpoint else 0.0
    seconds = 0.0 if load_finished_training(trainer, checkpoint) else run_steps(trainer, checkpoint)
    metrics = compute_mean_loss(trainer.state.log_history) | {
        "steps": trainer.state.global_step,
        "epoch": trainer.state.epoch,
        "train_seconds": seconds,
    }
    if seconds:
        # Counted by epochs, because the last step of an epoch may have fewer rows than the others.
        count = (trainer.state.epoch - earlier_epochs) * len(trainer.train_dataset)
        metrics[f"{rows}_per_second"] = count / seconds
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
        best = checkpoint_files.parse_step(Path(trainer.state.best_model_checkpoint))
        metrics |= {"best_step": best, "best_metric": trainer.state.best_metric}
    metrics |= compute_last_quarter(trainer.state.log_history)
    if trainer.is_world_process_zero():
        checkpointing.remove_unusable(run)
    if trainer.eval_dataset is not None:
        evaluated = trainer.evaluate()
        metrics |= {key: value for key, value in evaluated.items() if not key.endswith(SESSION_METRIC_SUFFIXES)}
    return metrics | {"peak_memory_gb": device_memory.get_peak_bytes() / 1e9}


def find_resume_checkpoint(trainer: CheckpointedTrainer, run: Path) -> Path | None:
    """The checkpoint to resume from. Prints which checkpoints are not used, and removes them."""
    for folder in checkpointing.find_unusable(run):
        print(checkpointing.describe_unusable(folder))
    checkpoint = checkpointing.find_last_checkpoint(run)
    if checkpoint and trainer.args.load_best_model_at_end:
        check_best_checkpoint(checkpoint)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        checkpointing.remove_unusable(run)
    trainer.accelerator.wait_for_everyone()
    if checkpoint is None:
        if (run / LOG_FILE).exists():
            print("the earlier start of this run saved no checkpoint; training starts again")
        return None
    print(f"resuming from {checkpoint}")
    return checkpoint


def check_best_checkpoint(checkpoint: Path) -> None:
    """Checks the checkpoint whose adapter may become that of the run, and says when it is gone.

    Args:
        checkpoint: the one that the run is resumed from.

    Raises:
        RunError: when the best one is damaged. Nothing is removed: later checkpoints may be of days of training.
    """
    best = checkpointing.find_best_checkpoint(checkpoint)
    if best is None and read_state(checkpoint).best_model_checkpoint:
        print("the best checkpoint so far is no longer there; the best of the next ones is kept")
    damage = checkpoint_files.find_damage(best) if best else None
    if damage:
        raise RunError(
            f"{best}: {damage}; it is the best checkpoint so far, whose adapter this run would keep. Restore the file, "
            f"or remove this checkpoint and the later ones to train their steps again"
        )


def load_finished_training(trainer: CheckpointedTrainer, checkpoint: Path | None) -> bool:
    """Loads a checkpoint at which training had ended, and returns True; does nothing for any other, and returns False.

    transformers would take one more step when training had ended before the end of an epoch: by early stopping, or by
    max_steps.
    """
    if checkpoint is None:
        return False
    state = read_state(checkpoint)
    if not state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
        return False
    trainer.state = state
    best = checkpointing.find_best_checkpoint(checkpoint)
    state.best_model_checkpoint = str(best) if best else None
    kept = best if best and trainer.args.load_best_model_at_end else checkpoint
    trainer.read_weights(kept)
    return True


def read_state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def run_steps(trainer: CheckpointedTrainer, checkpoint: Path | None) -> float:
    """Runs the trainer's loop and returns its seconds; see `train` for errors."""
    run = Path(trainer.args.output_dir)
    stop = GracefulStopCallback(trainer.accelerator)
    trainer.add_callback(stop)
    try:
        with stop.handle_signals():
            started = time.monotonic()  # not transformers' own seconds, which follow changes of the clock
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            seconds = time.monotonic() - started
    except KeyboardInterrupt:
        end_progress_bar(trainer)
        place = checkpointing.find_last_checkpoint(run) or "the start"
        raise KeyboardInterrupt(f"at once; run the same command again to continue from {place}") from None
    except Exception as error:
        end_progress_bar(trainer)
        raise_if_checkpoint_failed(run, error)
        raise
    saved = checkpointing.find_last_checkpoint(run)
    # A signal that came after the last step is received, but does not stop anything.
    if (stop.signal_received or stop.stopping) and saved:
        raise KeyboardInterrupt(f"{saved} is saved; run the same command again to continue from it")
    return seconds


def end_progress_bar(trainer: CheckpointedTrainer) -> None:
    trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)


def raise_if_checkpoint_failed(run: Path, error: Exception) -> None:
    """A full disk raises a different exception in each library, so the incomplete checkpoint tells what failed.

    Raises:
        RunError: when a checkpoint was being written; it is removed.
    """
    incomplete = checkpointing.find_unusable(run)
    if not incomplete:
        return
    file = getattr(error, "filename", None) or checkpoint_files.find_newest_file(incomplete[-1])
    checkpoint_files.remove(incomplete[-1])
    reason = " ".join(str(error).split())  # torch's message has several lines
    raise RunError(
        f"{file} could not be written ({reason}); {shutil.disk_usage(run).free / 1e9:.2f} GB are free there. "
        f"The same command continues from {checkpointing.find_last_checkpoint(run) or 'the start'}"
    ) from error


def compute_mean_loss(log: list[dict[str, Any]]) -> dict[str, float]:
    """`{"train_loss"}`: the mean over steps, from log entries that each hold the mean since the entry before.

    Empty when no loss was logged.
    """
    entries = count_steps(log)
    return {"train_loss": compute_mean(entries, "loss")} if entries else {}


def compute_last_quarter(log: list[dict[str, Any]]) -> dict[str, float]:
    """`{"last_quarter/NAME"}`: means over the steps of the entries that end in the last quarter of the logged steps."""
    entries = count_steps(log)
    last = [(steps, entry) for steps, entry in entries if entry["step"] > 0.75 * entries[-1][1]["step"]]
    names = [name for name in last[-1][1] if name.startswith(AVERAGED)] if last else []
    return {LAST_QUARTER + name: compute_mean(last, name) for name in names}


def count_steps(log: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Each entry with a loss, and the number of steps since the one before, whose mean it is. Other entries are
    evaluations, and the final summary."""
    entries = [entry for entry in log if "loss" in entry and "train_loss" not in entry]
    starts = [0, *(entry["step"] for entry in entries)]
    return [(entry["step"] - start, entry) for start, entry in zip(starts, entries, strict=False)]


def compute_mean(entries: list[tuple[int, dict[str, Any]]], name: str) -> float:
    return sum(steps * entry[name] for steps, entry in entries) / sum(steps for steps, _ in entries)


def save_adapter(policy: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the trained adapter, its tokenizer and template: what evaluate.py and PeftModel load."""
    write_adapter(policy, POLICY_ADAPTER, folder)
    with atomic_files.name_file_in_errors(folder / TOKENIZER_FILE):
        tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        checkpoint_files.fsync(file)  # before metrics.json says that the run is finished
