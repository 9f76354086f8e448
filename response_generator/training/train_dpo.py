"""Builds the DPO trainer from a loaded policy, tokenized pairs and TRL's configuration."""

from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import DPOConfig

from response_generator.constants import POLICY_ADAPTER, REFERENCE_ADAPTER
from response_generator.data.tokenization import TokenizedPairs
from response_generator.errors import RunError
from response_generator.training.dpo_trainer import ResumableDPOTrainer
from response_generator.training.trained_weights import copy_trained_weights, revert_unsloth_overrides


def build_trainer(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    config: DPOConfig,
    train: TokenizedPairs,
    held_out: TokenizedPairs | None,
    callbacks: list[TrainerCallback],
    run_identity: dict[str, Any] | None = None,
    save_total_limit: int | None = None,
) -> ResumableDPOTrainer:
    """Builds the trainer. TRL adds the frozen adapter "ref", a copy of "default".

    Args:
        run_identity: written into each checkpoint, see `checkpointing.check_run_identity`.
        save_total_limit: checkpoints to keep; None keeps all.

    Raises:
        RunError: when nothing, or more than the adapter, would be trained; or when TRL refuses the settings.
    """
    loaded = copy_trained_weights(policy)
    settings = dict(vars(config))
    try:
        trainer = ResumableDPOTrainer(
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
        raise RunError(f"dpo: {error}") from error
    trainer.remove_callback(PrinterCallback)  # it prints every log entry as a dict across the progress bar
    restore_fp32_adapters(policy, loaded)
    revert_unsloth_overrides("dpo", trainer.args, settings, longest=max(train.lengths()["whole"]))
    return trainer


def restore_fp32_adapters(policy: PeftModel, loaded: dict[str, torch.Tensor]) -> None:
    """Gives policy and reference the loaded adapter weights in fp32.

    TRL casts the LoRA weights of a 4-bit model to bf16, in which small AdamW steps round to nothing. It also leaves the
    reference's copies of whole modules in the base's dtype, so one adapter would give two different functions.
    """
    for name, weights in loaded.items():
        policy.get_parameter(name).data = weights
        policy.get_parameter(name.replace(f".{POLICY_ADAPTER}.", f".{REFERENCE_ADAPTER}.")).data = weights.clone()
