"""Builds a trainer from a loaded policy, tokenized rows and TRL's configuration.

It undoes what TRL and unsloth change in adapter weights and settings.
"""

from typing import Any, TypeVar

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainingArguments

from response_generator.constants import POLICY_ADAPTER, REFERENCE_ADAPTER
from response_generator.data.pair_tokenization import TokenizedRows
from response_generator.errors import RunError
from response_generator.training.trl_trainers import ResumableTrainer

SomeTrainer = TypeVar("SomeTrainer", bound=ResumableTrainer)


def build_trainer(
    trainer_class: type[SomeTrainer],
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainingArguments,
    train: TokenizedRows,
    held_out: TokenizedRows | None,
    callbacks: list[TrainerCallback],
    run_identity: dict[str, Any] | None = None,
    save_total_limit: int | None = None,
) -> SomeTrainer:
    """Builds the trainer. For DPO, TRL adds the frozen adapter "ref", a copy of "default".

    Args:
        run_identity: written into each checkpoint, see `checkpointing.check_run_identity`.
        save_total_limit: checkpoints to keep; None keeps all.

    Raises:
        RunError: when nothing, or more than the adapter, would be trained; or when TRL refuses the settings.
    """
    loaded = copy_trained_weights(policy)
    settings = dict(vars(config))
    try:
        trainer = trainer_class(
            model=policy,
            args=config,
            train_dataset=train.dataset(),
            eval_dataset=held_out.dataset() if held_out else None,
            processing_class=tokenizer,
            callbacks=callbacks,
            run_identity=run_identity or {},
            save_total_limit=save_total_limit,
        )
    except (ValueError, NotImplementedError) as error:
        raise RunError(f"{trainer_class.section}: {error}") from error
    trainer.remove_callback(PrinterCallback)  # it prints every log entry as a dict across the progress bar
    restore_fp32_adapters(policy, loaded)
    revert_unsloth_overrides(trainer, settings, longest=max(trainer.train_dataset["length"]))
    return trainer


def copy_trained_weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    """The weights that will be trained, in fp32, by name.

    Raises:
        RunError: when nothing, or more than the adapter, would be trained.
    """
    loaded = {
        name: weight.detach().float().clone() for name, weight in policy.named_parameters() if weight.requires_grad
    }
    if not loaded:
        raise RunError("no parameter is trainable: the adapter was loaded frozen, and nothing would be learned")
    outside = [name for name in loaded if f".{POLICY_ADAPTER}." not in name]
    if outside:
        raise RunError(f"parameters outside the adapter are trainable, for example {outside[0]}")
    return loaded


def restore_fp32_adapters(policy: PeftModel, loaded: dict[str, torch.Tensor]) -> None:
    """Gives the policy, and in DPO its reference, the loaded adapter weights in fp32.

    TRL casts the LoRA weights of a 4-bit model to bf16, in which small AdamW steps round to nothing. It also leaves the
    reference's copies of whole modules in the base's dtype, so one adapter would give two different functions.
    """
    has_reference = REFERENCE_ADAPTER in policy.peft_config
    for name, weights in loaded.items():
        policy.get_parameter(name).data = weights
        if has_reference:
            reference_name = name.replace(f".{POLICY_ADAPTER}.", f".{REFERENCE_ADAPTER}.")
            policy.get_parameter(reference_name).data = weights.clone()


def revert_unsloth_overrides(trainer: ResumableTrainer, settings: dict[str, Any], longest: int) -> None:
    """Restores fields of the configuration that unsloth's GPU trainer overwrites.

    Args:
        settings: the fields before the trainer was built.
        longest: tokens of the longest row.

    Raises:
        RunError: when unsloth would cut rows shorter than the preview has shown, or train in another precision.
    """
    config = trainer.args
    # Evaluation in pure bf16 would cast the model for good, adapter and reference included; a 4-bit model refuses it.
    for name in ("bf16_full_eval", "fp16_full_eval", "per_device_eval_batch_size", "eval_accumulation_steps"):
        setattr(config, name, settings[name])
    if (config.bf16, config.fp16) != (settings["bf16"], settings["fp16"]):
        raise RunError(
            f"unsloth trains this model with bf16 {config.bf16}, fp16 {config.fp16}; write that into the section "
            f"{trainer.section}"
        )
    if config.max_length is not None and longest > config.max_length:
        raise RunError(
            f"unsloth has loaded the model for {config.max_length} tokens, but the longest row has {longest}; raise "
            f"from_pretrained.max_seq_length to that, or lower {trainer.section}.max_length"
        )
