"""Builds TRL's DPOConfig from the section `dpo`."""

from trl import DPOConfig

from response_generator.config.library_keywords import SHARED_PREFIX
from response_generator.config.training_schema import DPOArguments
from response_generator.training.trainer_config import build_trainer_config

# TRL would precompute with bf16 weights, before they are restored to fp32 and before another reference is loaded (see
# reference.py). It has no shared prefix.
KEYS_NOT_FOR_TRL = {"precompute_ref_log_probs", SHARED_PREFIX}


def build_dpo_config(arguments: DPOArguments) -> DPOConfig:
    """Builds TRL's configuration; see `build_trainer_config` for errors."""
    dpo = {key: value for key, value in arguments.dpo.items() if key not in KEYS_NOT_FOR_TRL}
    return build_trainer_config(DPOConfig, arguments.model_copy(update={"dpo": dpo}))
