"""Reads and checks the configuration of the base model, and builds it without weights, to look at layers and shapes."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from response_generator.config.schema import LoadingArguments
from response_generator.config.sources import from_pretrained_keywords
from response_generator.errors import InputError

# Keywords that are also fields of a configuration, but say how to load the base model.
LOADER_KEYWORDS = {"dtype", "use_cache", "quantization_config"}
# Fields that only Llama and similar models have.
LLAMA_ONLY = {"pretraining_tp", "mlp_bias"}
# Fields whose value has to match the stored weights.
SHAPE_FIELDS = set(
    "hidden_size intermediate_size head_dim num_attention_heads num_hidden_layers num_key_value_heads vocab_size "
    "hidden_act mlp_bias attention_bias tie_word_embeddings".split()
)


def load_config(arguments: LoadingArguments) -> PretrainedConfig:
    """Loads the configuration of the base model and checks the keywords of `from_pretrained` against it.

    Raises:
        InputError: when the configuration cannot be read, or when a keyword is a field that this type of model does
            not have, or one that differs from the stored weights.
    """
    trust_remote_code = arguments.from_pretrained.get("trust_remote_code", False)
    try:
        config = AutoConfig.from_pretrained(**from_pretrained_keywords(arguments.base_model, trust_remote_code))
    except Exception as error:  # the configuration classes raise exceptions of many types
        raise InputError(f"base_model: {arguments.base_model}: its config.json cannot be used ({error})") from error
    errors = []
    for key, value in arguments.from_pretrained.items():
        if key in LLAMA_ONLY and not hasattr(config, key):
            errors.append(
                f"from_pretrained.{key}: {config.model_type} models have no such field; remove it, or pass "
                f"--set from_pretrained.{key}=null"
            )
        elif key in SHAPE_FIELDS and getattr(config, key, value) != value:
            errors.append(f"from_pretrained.{key}: got {value}; the base model has {getattr(config, key)}; remove it")
    if errors:
        raise InputError(*errors)
    return config


def get_changed_config_fields(arguments: LoadingArguments) -> dict[str, Any]:
    """Returns the keywords of `from_pretrained` that replace fields of the base model's configuration, such as
    rope_parameters. Leaves out those that say how to load the model."""
    config_keys = load_config(arguments).to_dict().keys() | {"rope_scaling"}
    return {key: value for key, value in arguments.from_pretrained.items() if key in config_keys - LOADER_KEYWORDS}


def build_meta_model(config: PretrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """Builds the model of a configuration on the device "meta", where tensors have a shape but take no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def check_loading(arguments: LoadingArguments) -> None:
    """Builds the base model without weights, with the configuration fields that `from_pretrained` replaces.

    Raises:
        InputError: with the error of transformers, when the model cannot be built.
    """
    fields = get_changed_config_fields(arguments)
    trust_remote_code = arguments.from_pretrained.get("trust_remote_code", False)
    keywords = from_pretrained_keywords(arguments.base_model, trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(**keywords, **fields)
        build_meta_model(config, trust_remote_code)
    except Exception as error:  # the configuration and model classes raise exceptions of many types
        keys = ", ".join(f"from_pretrained.{key}" for key in fields) or "base_model"
        raise InputError(f"{keys}: the base cannot be built ({type(error).__name__}: {error})") from error
