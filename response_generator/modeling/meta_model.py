"""A model without memory for its weights: its layers and their shapes, from a configuration alone."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel


def build_meta_model(config: PretrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
