"""TRL's DPOTrainer with tokens from `tokenize_pairs`, resumption to the same bytes, and no training on NaN."""

from trl import DPOTrainer

from response_generator.training.resumable_trainer import ResumableTrainer


class ResumableDPOTrainer(ResumableTrainer, DPOTrainer):
    """See `ResumableTrainer`."""

    section = "dpo"
