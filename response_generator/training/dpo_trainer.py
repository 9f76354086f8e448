"""TRL's DPOTrainer with tokens from `tokenize_pairs`, resumption to the same bytes, and no training on NaN."""

from typing import Any

from trl import DPOTrainer

from response_generator.training.resumable_trainer import ResumableTrainer

# Which replies' tokens TRL averages these metrics over; the others are means over pairs.
SIDES_OF_TOKEN_METRICS = {
    "entropy": ("chosen", "rejected"),
    "mean_token_accuracy": ("chosen",),
    "logits/chosen": ("chosen",),
    "logits/rejected": ("rejected",),
}


class ResumableDPOTrainer(ResumableTrainer, DPOTrainer):
    """See `ResumableTrainer`."""

    section = "dpo"

    def count_terms(self, name: str, row: dict[str, Any]) -> int:
        sides = SIDES_OF_TOKEN_METRICS.get(name)
        return sum(len(row[f"{side}_ids"]) for side in sides) if sides else 1
