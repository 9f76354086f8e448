"""What a trainer of TRL or unsloth would change in adapter weights and settings, and has to be undone."""

from typing import Any

import torch
from peft import PeftModel
from transformers import TrainingArguments

from response_generator.constants import POLICY_ADAPTER
from response_generator.errors import RunError


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


def revert_unsloth_overrides(section: str, config: TrainingArguments, settings: dict[str, Any], longest: int) -> None:
    """Restores fields of the configuration that unsloth's GPU trainer overwrites.

    Args:
        section: "dpo" or "sft".
        settings: the fields before the trainer was built.
        longest: tokens of the longest row.

    Raises:
        RunError: when unsloth would cut rows shorter than the preview has shown, or train in another precision.
    """
    # Evaluation in pure bf16 would cast the model for good, adapter and reference included; a 4-bit model refuses it.
    for name in ("bf16_full_eval", "fp16_full_eval", "per_device_eval_batch_size", "eval_accumulation_steps"):
        setattr(config, name, settings[name])
    if (config.bf16, config.fp16) != (settings["bf16"], settings["fp16"]):
        raise RunError(
            f"unsloth trains this model with bf16 {config.bf16}, fp16 {config.fp16}; write that into the section "
            f"{section}"
        )
    if config.max_length is not None and longest > config.max_length:
        raise RunError(
            f"unsloth has loaded the model for {config.max_length} tokens, but the longest row has {longest}; raise "
            f"from_pretrained.max_seq_length to that, or lower {section}.max_length"
        )
