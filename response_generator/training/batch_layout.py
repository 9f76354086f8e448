"""Chooses the layout of the batches: TRL's own, or rows in which the replies of a pair share their prompt."""

from collections.abc import Callable
from typing import Any

import torch

from response_generator.modeling.attention import FLASH, get_attn_implementation
from response_generator.modeling.backend import has_unsloth_forward
from response_generator.training.dpo_trainer import ResumableDPOTrainer
from response_generator.training.prefix_kernel import find_kernel_obstacle
from response_generator.training.reference import REF_LOGPS_COLUMNS, SIDES
from response_generator.training.sanity_checks import MAX_TIMES_ROUNDING
from response_generator.training.shared_prefix import MAX_ROW_TOKENS, SharedPrefixCollator, share_prompts

TRL_LAYOUT, SHARED_PREFIX_LAYOUT = "TRL", "shared prefix"
NUM_COMPARED_PAIRS = 4
MAX_GAP_NATS_PER_TOKEN = 1e-4  # in float32
MAX_ROUNDING_GAP_NATS_PER_TOKEN = 0.02  # in 16 bits, where another layout rounds differently
MIN_COMPARED_TOKENS = 25  # of a reply; a shorter one is allowed the gap of as many


def choose_layout(trainer: ResumableDPOTrainer, dpo: dict[str, Any]) -> str:
    """Lets the trainer use rows with shared prompts, if `shared_prefix` asks for it and the model computes the same
    log-probabilities on them.

    Returns:
        The layout in use. If `shared_prefix` asks for another one, the reason was printed.
    """
    if not dpo.get("shared_prefix"):
        return TRL_LAYOUT
    plain = trainer.data_collator
    reason = find_obstacle(trainer)
    if reason is None:
        share_prompts(trainer.accelerator.unwrap_model(trainer.model))
        packed = build_packed_collator(trainer)
        reason = compare_layouts(trainer, plain, packed)
    if reason is not None:
        if trainer.is_world_process_zero():
            print(f"shared_prefix: {reason}; training in TRL's layout, which computes each prompt twice")
        return TRL_LAYOUT
    trainer.data_collator = packed
    return SHARED_PREFIX_LAYOUT


def find_obstacle(trainer: ResumableDPOTrainer) -> str | None:
    """Why the model cannot run rows with shared prompts; None if it may."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    base = model.get_base_model()
    if getattr(base.config.get_text_config(), "sliding_window", None) is not None:
        return "the model has layers that do not attend to all earlier tokens"
    if has_unsloth_forward(base):
        return find_kernel_obstacle(base)
    if get_attn_implementation(base) == FLASH:
        return f"{FLASH} takes no mask; set from_pretrained.attn_implementation to sdpa"
    return None


def build_packed_collator(trainer: ResumableDPOTrainer) -> SharedPrefixCollator:
    base = trainer.accelerator.unwrap_model(trainer.model).get_base_model()
    # unsloth's kernel computes no attention between the pairs of a row, so a row may be long.
    max_row_tokens = None if has_unsloth_forward(base) else MAX_ROW_TOKENS
    return SharedPrefixCollator(trainer.processing_class.pad_token_id, max_row_tokens)


def compare_layouts(trainer: ResumableDPOTrainer, plain: Callable, packed: Callable) -> str | None:
    """Computes the log-probabilities of a few pairs in both layouts.

    Returns:
        How they differ; None if they are the same but for rounding.
    """
    rows = list(trainer.train_dataset.select(range(min(NUM_COMPARED_PAIRS, len(trainer.train_dataset)))))
    expected, found = (compute_reply_logps(trainer, collator, rows) for collator in (plain, packed))
    gap = find_largest_gap(rows, found, expected)
    is_float32 = trainer.model.dtype == torch.float32 and not (trainer.args.bf16 or trainer.args.fp16)
    allowed = MAX_GAP_NATS_PER_TOKEN if is_float32 else MAX_ROUNDING_GAP_NATS_PER_TOKEN
    if gap > allowed:
        alone = torch.stack([compute_reply_logps(trainer, plain, [row]) for row in rows], 1).flatten()
        allowed = max(allowed, MAX_TIMES_ROUNDING * find_largest_gap(rows, alone, expected))
    # The comparison is false for nan, so it asks for what must hold.
    if gap <= allowed:
        return None
    return f"log-probabilities of replies differ from those in TRL's layout by {gap:.3g} nats a token"


def find_largest_gap(rows: list[dict], logps: torch.Tensor, others: torch.Tensor) -> float:
    """In nats a token; both (2 x pairs,), first of all chosen, then of all rejected replies. nan if one of them is."""
    tokens = torch.tensor([len(row[f"{side}_ids"]) for side in SIDES for row in rows])
    return ((logps - others).abs() / tokens.clamp(min=MIN_COMPARED_TOKENS)).max().item()


@torch.no_grad()
def compute_reply_logps(trainer: ResumableDPOTrainer, collator: Callable, rows: list[dict]) -> torch.Tensor:
    """Log-probabilities (nats) of the policy, first of all chosen, then of all rejected replies, (2 x pairs,)."""
    batch = trainer._prepare_inputs(collator(rows))
    inputs = {name: value for name, value in batch.items() if name not in ("completion_mask", *REF_LOGPS_COLUMNS)}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    was_training = trainer.model.training
    trainer.model.eval()
    with trainer.accelerator.autocast():
        logps = trainer.model(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs.float().sum(1)
    trainer.model.train(was_training)
    return logps.cpu()
