"""The fields of transformers' TrainingArguments for a classifier, from the section `trainer`."""

from typing import Any

import torch
from transformers import TrainingArguments

from response_generator.config.training_schema import ClassifierArguments
from response_generator.errors import InputError
from response_generator.modeling.precision import has_native_bf16


def build_settings(arguments: ClassifierArguments) -> dict[str, Any]:
    """Adds what this program sets to the section `trainer`.

    Raises:
        InputError: with transformers' message when values contradict each other.
    """
    settings = arguments.trainer | {
        "output_dir": arguments.output_dir,
        "seed": arguments.seed,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": [],
    }
    settings.setdefault("bf16", has_native_bf16())
    try:
        TrainingArguments(**settings)
    except Exception as error:  # each setting is checked in another place, with another exception
        raise InputError(f"trainer: {error}") from error
    return settings
