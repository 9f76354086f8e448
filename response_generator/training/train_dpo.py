"""From a loaded policy to a trained adapter: the trainer, the run itself with its resumption, figures."""

import resource
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerState,
)
from trl import DPOConfig

from response_generator.constants import POLICY_ADAPTER, REFERENCE_ADAPTER
from response_generator.data.tokenization import TokenizedPairs
from response_generator.errors import RunError
from response_generator.modeling.adapters import write_adapter
from response_generator.training import checkpointing
from response_generator.training.dpo_trainer import ResumableDPOTrainer
from response_generator.training.graceful_stop import GracefulStopCallback

SESSION_METRIC_SUFFIXES = (
    "_per_second",
    "_runtime",
    "_preparation_time",
    "_num_tokens",
)  # of an evaluation, not of its result


def build_trainer(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    config: DPOConfig,
    train: TokenizedPairs,
    held_out: TokenizedPairs | None,
    callbacks: list[TrainerCallback],
    run_identity: dict[str, Any] | None = None,
) -> ResumableDPOTrainer:
    """Builds the trainer; TRL adds the frozen adapter `ref`, a copy of `default`.

    Args:
        run_identity: what each checkpoint says of the run that it belongs to, see `checkpointing.check_run_identity`.

    Raises:
        RunError: when nothing would be trained.
    """
    loaded = copy_trained_weights(policy)
    if not loaded:
        raise RunError("no parameter is trainable: the adapter was loaded frozen, and nothing would be learned")
    outside = [name for name in loaded if f".{POLICY_ADAPTER}." not in name]
    if outside:
        raise RunError(f"parameters outside the adapter are trainable, for example {outside[0]}")
    asked = dict(vars(config))
    try:
        trainer = ResumableDPOTrainer(
            model=policy,
            args=config,
            train_dataset=train.dataset(),
            eval_dataset=held_out.dataset() if held_out else None,
            processing_class=tokenizer,
            callbacks=callbacks,
            run_identity=run_identity or {},
        )
    except (ValueError, NotImplementedError) as error:
        raise RunError(f"dpo: {error}") from error
    trainer.remove_callback(PrinterCallback)  # it prints every log as a dict through the progress bar
    restore_fp32_adapters(policy, loaded)
    revert_unsloth_overrides(trainer.args, asked, longest=max(train.lengths()["whole"]))
    return trainer


def revert_unsloth_overrides(config: DPOConfig, asked: dict[str, Any], longest: int) -> None:
    """Takes back what unsloth's GPU trainer changes in a configuration that it was given.

    Raises:
        RunError: when it would cut pairs shorter than they were counted and shown, or train in another precision.
    """
    # Evaluation in pure bf16 casts the model, adapter and reference included, for good; a 4-bit model refuses.
    for name in ("bf16_full_eval", "fp16_full_eval", "per_device_eval_batch_size", "eval_accumulation_steps"):
        setattr(config, name, asked[name])
    if (config.bf16, config.fp16) != (asked["bf16"], asked["fp16"]):
        raise RunError(
            f"unsloth trains this model with bf16 {config.bf16}, fp16 {config.fp16}; write that into the section dpo"
        )
    if config.max_length is not None and longest > config.max_length:
        raise RunError(
            f"unsloth loaded the model for {config.max_length} tokens, the longest pair has {longest}; set "
            f"from_pretrained.max_seq_length to as many, or lower dpo.max_length"
        )


def copy_trained_weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().float().clone() for name, weight in policy.named_parameters() if weight.requires_grad}


def restore_fp32_adapters(policy: PeftModel, loaded: dict[str, torch.Tensor]) -> None:
    """Gives adapter and reference the weights that were loaded, in fp32.

    TRL casts a 4-bit model's LoRA weights to bf16, where small AdamW steps round to nothing, and keeps the copies that
    `ref` holds of whole modules in the base's dtype. Two precisions would also make two functions of one adapter.
    """
    for name, weights in loaded.items():
        policy.get_parameter(name).data = weights
        policy.get_parameter(name.replace(f".{POLICY_ADAPTER}.", f".{REFERENCE_ADAPTER}.")).data = weights.clone()


def train(trainer: ResumableDPOTrainer) -> dict[str, float]:
    """Trains, from the last complete checkpoint where there is one, then measures the held-out pairs.

    Returns:
        `train_loss` (mean of all logged steps, those before a resumption included), TRL's last logged metrics,
        `eval_*` on the held-out pairs, `pairs_per_second` and `train_seconds` of this session, and peak memory in GB.

    Raises:
        KeyboardInterrupt: after a signal, with the checkpoint that was saved for it.
    """
    run = Path(trainer.args.output_dir)
    checkpoint = find_resume_checkpoint(trainer, run)
    epochs_before = read_epoch(checkpoint) if checkpoint else 0.0
    seconds = 0.0 if load_finished_training(trainer, checkpoint) else run_steps(trainer, checkpoint)
    metrics = compute_mean_loss(trainer.state.log_history) | {
        "steps": trainer.state.global_step,
        "epoch": trainer.state.epoch,
        "train_seconds": seconds,
    }
    if seconds:
        # By epochs: an epoch's last step, or its only one, may take fewer pairs than the others.
        pairs = (trainer.state.epoch - epochs_before) * len(trainer.train_dataset)
        metrics["pairs_per_second"] = pairs / seconds
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
        best = checkpointing.parse_step(Path(trainer.state.best_model_checkpoint))
        metrics |= {"best_step": best, "best_metric": trainer.state.best_metric}
    last = next((entry for entry in reversed(trainer.state.log_history) if is_step_entry(entry)), {})
    metrics |= {key: value for key, value in last.items() if key.startswith(("rewards/", "logps/"))}
    if trainer.is_world_process_zero():
        checkpointing.remove_incomplete(run)
    if trainer.eval_dataset is not None:
        measured = trainer.evaluate()
        metrics |= {key: value for key, value in measured.items() if not key.endswith(SESSION_METRIC_SUFFIXES)}
    return metrics | {"peak_memory_gb": get_peak_memory_gb()}


def is_step_entry(entry: dict[str, Any]) -> bool:
    """Whether a log entry is a step's; the closing summary holds what was left over since the last one."""
    return "rewards/margins" in entry and "train_loss" not in entry


def find_resume_checkpoint(trainer: ResumableDPOTrainer, run: Path) -> Path | None:
    """The checkpoint to resume from; says what was passed over."""
    for line in checkpointing.describe_unusable(run):
        print(line)
    checkpoint = checkpointing.find_last_checkpoint(run)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        checkpointing.remove_incomplete(run)
    trainer.accelerator.wait_for_everyone()
    if checkpoint is None:
        return None
    print(f"resuming from {checkpoint}")
    return checkpoint


def load_finished_training(trainer: ResumableDPOTrainer, checkpoint: Path | None) -> bool:
    """Loads a checkpoint at which training had come to its end; False, with nothing done, for any other.

    transformers would take one more step, when the end is not an epoch's: after early stopping, or with max_steps.
    """
    if checkpoint is None:
        return False
    state = read_state(checkpoint)
    if not state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
        return False
    trainer.state = state
    if trainer.args.load_best_model_at_end and state.best_model_checkpoint:
        trainer._load_best_model()
    else:
        trainer._load_from_checkpoint(str(checkpoint))
    return True


def read_state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def read_epoch(checkpoint: Path) -> float:
    return read_state(checkpoint).epoch


def run_steps(trainer: ResumableDPOTrainer, checkpoint: Path | None) -> float:
    """Runs the trainer's loop; returns its seconds."""
    stop = GracefulStopCallback(trainer.accelerator)
    trainer.add_callback(stop)
    try:
        with stop.handle_signals():
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (KeyboardInterrupt, RunError) as stopped:
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # ends the progress bar
        if isinstance(stopped, RunError):
            raise
        place = checkpointing.find_last_checkpoint(Path(trainer.args.output_dir)) or "the start"
        raise KeyboardInterrupt(f"at once; run the same command again to go on from {place}") from None
    saved = checkpointing.find_last_checkpoint(Path(trainer.args.output_dir))
    if (stop.asked or stop.stopping) and saved:  # asked, but not stopping: the signal came after the last step
        raise KeyboardInterrupt(f"{saved} is saved; run the same command again to go on from it")
    return result.metrics["train_runtime"]


def compute_mean_loss(log: list[dict[str, Any]]) -> dict[str, float]:
    """`{"train_loss"}`, the mean over steps of the logged losses, each of which is the mean since the entry before it;
    empty when none was logged."""
    entries = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    if not entries:
        return {}
    starts = [0, *(step for step, _ in entries[:-1])]
    total = sum((step - start) * loss for start, (step, loss) in zip(starts, entries, strict=True))
    return {"train_loss": total / entries[-1][0]}


def get_peak_memory_gb() -> float:
    """The card's peak where there is one, else the process's (Linux counts it in kilobytes)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def save_adapter(policy: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the trained adapter, its tokenizer and template: what evaluate.py and PeftModel load."""
    write_adapter(policy, POLICY_ADAPTER, folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        checkpointing.fsync(file)  # before metrics.json says that the run is finished
