"""Builds models without weights, to look at their layers and shapes."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel


def build_meta_model(config: PretrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """Builds the model of a configuration on the device "meta", where tensors have a shape but take no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
