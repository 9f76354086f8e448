"""What lies in the folder of a model or an adapter on this machine, read before anything is loaded; no torch."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from response_generator.config import strict_json
from response_generator.errors import InputError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json tokenizer.model tokenizer_config.json vocab.json vocab.txt spiece.model sentencepiece.bpe.model"
).split()
CAUSAL_LM = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
CLASSIFIER = ("ForSequenceClassification",)


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a safetensors file, whose header and size are checked; no tensor is read.

    Raises:
        InputError: when the file is damaged or cut short.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: is damaged or cut short ({error}); fetch or write it again") from error


def find_model_errors(folder: Path, heads: tuple[str, ...]) -> list[str]:
    """What is wrong with the files of a model in `folder`.

    Args:
        heads: endings of the class names that the model may have: CAUSAL_LM or CLASSIFIER.
    """
    errors = []
    try:
        config = strict_json.read_object(folder / CONFIG)
        if not isinstance(config.get("model_type"), str):
            errors.append(f"{folder / CONFIG}: names no model_type; fetch the model again")
        names = config.get("architectures")
        if isinstance(names, list) and names and not any(str(name).endswith(heads) for name in names):
            errors.append(f"{folder}: is a {', '.join(map(str, names))}; needed: {' or '.join(heads)}")
    except InputError as error:
        errors.append(f"{error}; fetch the model again")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        errors.append(f"{folder}: holds no tokenizer ({', '.join(TOKENIZER_FILES[:2])} …); fetch the model again")
    try:
        for file in find_weights(folder):
            read_shapes(file)
    except InputError as error:
        errors.append(str(error))
    return errors


def find_weights(folder: Path) -> list[Path]:
    """The safetensors files of a model: one, or the parts that its index names.

    Raises:
        InputError: when there are none, or not all that the index names.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder}: holds no {WEIGHTS} and no {INDEX}; pickled weights (.bin) are not loaded")
    parts = strict_json.read_object(folder / INDEX).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise InputError(f"{folder / INDEX}: holds no weight_map; fetch the model again")
    files = [folder / name for name in sorted(set(map(str, parts.values())))]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise InputError(f"{folder}: lacks {', '.join(absent)}, which its index names; fetch the model again")
    return files


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The configuration of an adapter and the shapes of its tensors; whether it fits a base is asked later.

    Raises:
        InputError: with everything that is wrong with its files.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{folder}: holds no {ADAPTER_WEIGHTS}; pickled weights (.bin) are not loaded")
    errors, config, shapes = [], {}, {}
    try:
        config = strict_json.read_object(folder / ADAPTER_CONFIG)
        kind = config.get("peft_type")
        if kind != "LORA":
            errors.append(f"{folder / ADAPTER_CONFIG}: peft_type is {kind!r}; allowed: LORA")
    except InputError as error:
        errors.append(f"{error}; fetch or train the adapter again")
    try:
        shapes = read_shapes(folder / ADAPTER_WEIGHTS)
    except InputError as error:
        errors.append(str(error))
    if errors:
        raise InputError(*errors)
    return config, shapes
