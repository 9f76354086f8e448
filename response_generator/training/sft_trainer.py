"""TRL's SFTTrainer with tokens from `tokenize_dialogues`, resumption to the same bytes, and no training on NaN."""

from trl import SFTTrainer

from response_generator.training.resumable_trainer import ResumableTrainer


class ResumableSFTTrainer(ResumableTrainer, SFTTrainer):
    """See `ResumableTrainer`."""

    section = "sft"
