"""Chooses the layout of the batches: TRL's own, or rows in which the replies of a pair share their prompt."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, send_to_device

from response_generator.config.library.training_keys import AUTO, SHARED_PREFIX
from response_generator.constants import SIDES
from response_generator.errors import RunError
from response_generator.modeling.attention import FLASH, get_attn_implementation
from response_generator.modeling.backend import has_unsloth_forward
from response_generator.training.dpo_checks import MAX_TIMES_ROUNDING
from response_generator.training.layout import layout_speed
from response_generator.training.layout.prefix_kernel import find_kernel_obstacle
from response_generator.training.layout.shared_prefix import MAX_ROW_TOKENS, SharedPrefixCollator, share_prompts
from response_generator.training.trl_trainers import ResumableDPOTrainer

TRL_LAYOUT, SHARED_PREFIX_LAYOUT = "TRL", "shared prefix"
NUM_COMPARED_PAIRS = 4
MAX_GAP_NATS_PER_TOKEN = 1e-4  # in float32
MAX_ROUNDING_GAP_NATS_PER_TOKEN = 0.02  # in 16 bits, where another layout rounds differently
MIN_COMPARED_TOKENS = 25  # of a reply; a shorter one is allowed the gap of as many


def choose_layout(trainer: ResumableDPOTrainer, dpo: dict[str, Any], earlier: str | None = None) -> str:
    """Lets the trainer use rows with shared prompts, if `shared_prefix` asks for it, or if it is "auto" and they are
    faster; and if the model computes the same log-probabilities on them. All processes take the main process's choice.

    Args:
        earlier: the layout of the earlier start that this one resumes; "auto" keeps it.

    Returns:
        The layout in use. Why it is not the one that `shared_prefix` asks for, or how fast both are, was printed.
    """
    layouts, said = list_possible_layouts(dpo), None
    if len(layouts) > 1 and earlier in layouts:
        layouts, said = [earlier], f"shared_prefix: the layout of the earlier start is kept: {earlier}"
    chosen, plain, packed = layouts[0], trainer.data_collator, build_packed_collator(trainer)
    reason = try_shared_prefix(trainer, packed) if SHARED_PREFIX_LAYOUT in layouts else None
    if reason is not None:
        chosen = TRL_LAYOUT
        said = f"shared_prefix: {reason}; training in TRL's layout, which computes each prompt twice"
    # The main process alone: if it were out of memory while others wait for its part of a sum, they would wait forever.
    elif len(layouts) > 1 and trainer.is_world_process_zero():
        collators = {TRL_LAYOUT: plain, SHARED_PREFIX_LAYOUT: packed}
        with_reference = not dpo.get("precompute_ref_log_probs")
        chosen, said = choose_faster(layout_speed.measure_speeds(trainer, collators, with_reference))
    if said and trainer.is_world_process_zero():
        print(said)
    choice = [chosen]
    broadcast_object_list(choice)
    trainer.data_collator = packed if choice[0] == SHARED_PREFIX_LAYOUT else plain
    return choice[0]


def list_possible_layouts(dpo: dict[str, Any]) -> list[str]:
    """The layouts that a run with these settings may use; with "auto" both."""
    asked = dpo.get(SHARED_PREFIX)
    if asked is None or asked == AUTO:
        return [TRL_LAYOUT, SHARED_PREFIX_LAYOUT]
    return [SHARED_PREFIX_LAYOUT if asked else TRL_LAYOUT]


def try_shared_prefix(trainer: ResumableDPOTrainer, packed: SharedPrefixCollator) -> str | None:
    """Lets the model run rows with shared prompts, and compares what it computes on them.

    Returns:
        Why they cannot be used; None if they can.
    """
    reason = find_obstacle(trainer)
    if reason is not None:
        return reason
    share_prompts(trainer.accelerator.unwrap_model(trainer.model))
    return compare_layouts(trainer, trainer.data_collator, packed)


def choose_faster(speeds: dict[str, float]) -> tuple[str, str]:
    """
    Args:
        speeds: pairs a second in each layout, or OUT_OF_MEMORY.

    Returns:
        The faster layout, and a line that says so.

    Raises:
        RunError: when memory was not enough for either.
    """
    fastest = max(speeds, key=lambda layout: speeds[layout])
    if speeds[fastest] == layout_speed.OUT_OF_MEMORY:
        raise RunError(
            "out of memory in both layouts of a batch; lower dpo.per_device_train_batch_size or dpo.max_length, or set "
            "dpo.gradient_checkpointing: true"
        )
    figures = [
        f"{layout} {'is out of memory' if speed == layout_speed.OUT_OF_MEMORY else f'{speed:.1f} pairs/s'}"
        for layout, speed in speeds.items()
    ]
    return fastest, f"shared_prefix: auto: {', '.join(figures)}; training in the layout {fastest}"


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
    """Log-probabilities of the policy without dropout, see `layout_speed.compute_logps`."""
    was_training = trainer.model.training
    trainer.model.eval()
    logps = layout_speed.compute_logps(trainer, send_to_device(collator(rows), trainer.args.device))
    trainer.model.train(was_training)
    return logps.cpu()
