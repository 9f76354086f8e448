"""Builds TRL's SFTConfig from the section `sft`."""

from trl import SFTConfig

from response_generator.config.training_schema import SFTArguments
from response_generator.training.trainer_config import build_trainer_config


def build_sft_config(arguments: SFTArguments) -> SFTConfig:
    """Builds TRL's configuration for rows that are already tokenized; see `build_trainer_config` for errors."""
    return build_trainer_config(SFTConfig, arguments, dataset_kwargs={"skip_prepare_dataset": True})
