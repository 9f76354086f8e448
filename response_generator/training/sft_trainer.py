"""TRL's SFTTrainer with tokens from `tokenize_dialogues`, resumption to the same bytes, and no training on NaN."""

from typing import Any

from trl import SFTTrainer

from response_generator.data.dialogue_tokenization import IGNORED_LABEL
from response_generator.training.resumable_trainer import ResumableTrainer


class ResumableSFTTrainer(ResumableTrainer, SFTTrainer):
    """See `ResumableTrainer`."""

    section = "sft"

    def count_terms(self, name: str, row: dict[str, Any]) -> int:
        """The tokens with a loss: TRL averages over tokens alone."""
        return sum(label != IGNORED_LABEL for label in row["labels"])
