"""Builds TRL's DPOConfig and SFTConfig from a section of the args; the same on a CPU and with unsloth's GPU trainer."""

from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, TypeVar

import torch
from accelerate.utils import TorchDynamoPlugin
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, get_scheduler
from transformers.training_args import OptimizerNames
from trl import DPOConfig, SFTConfig

from response_generator.config.library.training_keys import EARLY_STOPPING, SHARED_PREFIX, TRAINING_DEFAULTS
from response_generator.config.training_schema import AdapterTrainingArguments, DPOArguments, SFTArguments
from response_generator.errors import InputError
from response_generator.modeling.precision import has_native_bf16

# Keys that are not passed to TRL. It would remove old checkpoints before the new one is complete (see
# resume_callbacks.py), and precompute with bf16 weights, before they are restored to fp32 and before another reference
# is loaded (see reference.py). It has no shared prefix. Early stopping is a callback of transformers.
KEYS_NOT_FOR_TRL = {"save_total_limit", "precompute_ref_log_probs", SHARED_PREFIX, *EARLY_STOPPING}
KEYS_CHANGED_BY_DEVICE = ("optim", "bf16", "fp16", "tf32")

Config = TypeVar("Config", bound=TrainingArguments)


def build_dpo_config(arguments: DPOArguments) -> DPOConfig:
    """Builds TRL's configuration; see `build_trainer_config` for errors."""
    return build_trainer_config(DPOConfig, arguments)


def build_sft_config(arguments: SFTArguments) -> SFTConfig:
    """Builds TRL's configuration for rows that are already tokenized; see `build_trainer_config` for errors."""
    return build_trainer_config(SFTConfig, arguments, dataset_kwargs={"skip_prepare_dataset": True})


def build_trainer_config(config_class: type[Config], arguments: AdapterTrainingArguments, **ours) -> Config:
    """Builds TRL's configuration from the section of the args, with TRL's own defaults for keys that are not given.

    Args:
        config_class: DPOConfig or SFTConfig, as the backend has patched it.
        ours: fields that this program sets.

    Raises:
        InputError: with TRL's message when values contradict each other, or when the backend cannot train here.
    """
    if arguments.backend == "transformers" and not torch.cuda.is_available():
        raise InputError(
            'backend: "transformers" can train only on a CUDA device, because the loss of TRL 1.15 is a Triton kernel; '
            'unsloth has a CPU version of it: use "unsloth" here'
        )
    values = {key: value for key, value in arguments.trl_settings.items() if key not in KEYS_NOT_FOR_TRL}
    ours |= {
        "output_dir": arguments.output_dir,
        "seed": arguments.seed,
        "report_to": [],
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,  # it would log an average instead of a NaN
        "restore_callback_states_from_checkpoint": True,  # a resumed run continues the patience count
    }
    device = {} if torch.cuda.is_available() else {"use_cpu": True}
    device |= {} if has_native_bf16() else {"bf16": False}
    try:
        config = config_class(**{**read_trl_defaults(config_class), **TRAINING_DEFAULTS, **device, **values, **ours})
        check_settings(config, values.get("optim", config.optim))
    except Exception as error:  # each setting is checked in another place, with another exception
        raise InputError(f"{arguments.section}: {error}") from error
    return config


def check_settings(config: TrainingArguments, optim: str) -> None:
    """Builds early what the trainer builds after loading the model: an optimizer of one number, and its schedule."""
    OptimizerNames(optim)  # unsloth's CPU backend would replace even an unknown name by its own optimizer
    optimizer_class, keywords = Trainer.get_optimizer_cls_and_kwargs(config)
    optimizer = optimizer_class([torch.nn.Parameter(torch.zeros(1))], **keywords)
    steps = {"num_warmup_steps": 1, "num_training_steps": 2}
    get_scheduler(config.lr_scheduler_type, optimizer, **steps, scheduler_specific_kwargs=config.lr_scheduler_kwargs)
    if config.torch_compile:
        TorchDynamoPlugin(backend=config.torch_compile_backend, mode=config.torch_compile_mode)


def find_changed_settings(arguments: AdapterTrainingArguments, config: TrainingArguments) -> list[str]:
    """A line for each value of the section that unsloth or this processor has replaced."""
    return [
        f"{arguments.section}.{key}: {value} in the args, {to_plain_value(getattr(config, key))} is used on this device"
        for key, value in arguments.trl_settings.items()
        if key in KEYS_CHANGED_BY_DEVICE and to_plain_value(getattr(config, key)) != value
    ]


def to_plain_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def read_trl_defaults(config_class: type[TrainingArguments]) -> dict[str, Any]:
    """The defaults of TRL's own class; on a GPU unsloth replaces the class by a subclass with other defaults."""
    name = config_class.__name__.removeprefix("Unsloth")
    original = next(each for each in reversed(config_class.__mro__) if each.__name__ == name)
    defaults = {}
    for field in fields(original):
        if field.init:
            defaults[field.name] = field.default if field.default is not MISSING else field.default_factory()
    return defaults


def build_early_stopping(values: dict[str, Any]) -> list[TrainerCallback]:
    """transformers' early stopping, when the section asks for it."""
    named = {key: values[key] for key in EARLY_STOPPING if values.get(key) is not None}
    return [EarlyStoppingCallback(**named)] if "early_stopping_patience" in named else []
