"""Checks the files of a local model or adapter before anything is loaded. Imports no torch."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from response_generator.config import strict_json
from response_generator.errors import InputError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json tokenizer.model tokenizer_config.json vocab.json vocab.txt spiece.model sentencepiece.bpe.model"
).split()
CALIBRATION_FILE = "calibration.json"  # of a classifier, see scoring/calibration.py
# What transformers, PEFT and this program read of a folder, besides the weights. A model card or a log may change.
SETTINGS_FILES = (
    CONFIG,
    ADAPTER_CONFIG,
    INDEX,
    CALIBRATION_FILE,
    *TOKENIZER_FILES,
    *"generation_config.json merges.txt special_tokens_map.json added_tokens.json".split(),
)
CAUSAL_LM = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
CLASSIFIER = ("ForSequenceClassification",)
ANY_MODEL = ("",)
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
MAX_LAYERS = 10_000  # the largest published models have a few hundred; building a million takes hours
MAX_INTEGER = 2**31 - 1
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # values of init_lora_weights


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Reads the shape of each tensor from the header of a safetensors file, which also checks the file's size.

    Raises:
        InputError: when the file is damaged or cut short.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: is damaged or cut short ({error}); download or write it again") from error


def find_model_errors(folder: Path, heads: tuple[str, ...], needs_weights: bool = True) -> list[str]:
    """Checks configuration, tokenizer and weights of the model in `folder`.

    Args:
        heads: allowed endings of the model's class name: CAUSAL_LM or CLASSIFIER.
        needs_weights: False for a model that is loaded elsewhere.
    """
    errors = []
    try:
        config = strict_json.read_object(folder / CONFIG)
        if not isinstance(config.get("model_type"), str):
            errors.append(f"{folder / CONFIG}: has no model_type; download the model again")
        names = config.get("architectures")
        if isinstance(names, list) and names and not any(str(name).endswith(heads) for name in names):
            errors.append(f"{folder}: is a {', '.join(map(str, names))}; needed: {' or '.join(heads)}")
        for key in LAYER_COUNTS:
            count = config.get(key, 1)
            if isinstance(count, int) and not 0 < count <= MAX_LAYERS:
                errors.append(f"{folder / CONFIG}: {key}: got {count}; allowed: 1 to {MAX_LAYERS}")
    except InputError as error:
        errors.append(f"{error}; download the model again")
    errors += find_generation_config_errors(folder / GENERATION_CONFIG)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        errors.append(f"{folder}: holds no tokenizer ({', '.join(TOKENIZER_FILES[:2])} …); download the model again")
    try:
        for file in find_weights(folder) if needs_weights else ():
            read_shapes(file)
    except InputError as error:
        errors.append(str(error))
    return errors


def find_generation_config_errors(file: Path) -> list[str]:
    """Checks what transformers only notices once the model is loaded. A model need not have this file."""
    try:
        config = strict_json.read_object(file) if file.is_file() else {}
    except InputError as error:
        return [f"{error}; download the model again"]
    errors = []
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = config.get(key)
        if any(type(token) is not int for token in (value if isinstance(value, list) else [value] if value else [])):
            errors.append(f"{file}: {key}: got {repr(value):.60}; allowed: an integer, a list of integers, or null")
    return errors


def find_weights(folder: Path) -> list[Path]:
    """Returns the safetensors files of a model: a single one, or those named in its index.

    Raises:
        InputError: when there are none, or a file named in the index is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder}: holds no {WEIGHTS} and no {INDEX}; pickled weights (.bin) are not loaded")
    weight_map = strict_json.read_object(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{folder / INDEX}: holds no weight_map; download the model again")
    files = [folder / name for name in sorted(set(map(str, weight_map.values())))]
    missing_files = [file.name for file in files if not file.is_file()]
    if missing_files:
        raise InputError(f"{folder}: lacks {', '.join(missing_files)}, named in {INDEX}; download the model again")
    return files


def find_identifying_files(folder: Path) -> list[Path]:
    """Returns the files that make the model or adapter in `folder` what it is: its weights, configuration and
    tokenizer. Files that are missing are left out."""
    try:
        weights = find_weights(folder)
    except InputError:  # an adapter, or what `find_model_errors` reports
        weights = []
    others = [folder / name for name in (ADAPTER_WEIGHTS, *SETTINGS_FILES)]
    return weights + [file for file in others if file.is_file()]


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Reads the configuration of an adapter and the shapes of its tensors. Does not compare them with a base model.

    Raises:
        InputError: with all errors in its files.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{folder}: holds no {ADAPTER_WEIGHTS}; pickled weights (.bin) are not loaded")
    errors, config, shapes = [], {}, {}
    try:
        config = strict_json.read_object(folder / ADAPTER_CONFIG)
        peft_type = config.get("peft_type")
        if peft_type != "LORA":
            errors.append(f"{folder / ADAPTER_CONFIG}: peft_type is {peft_type!r}; allowed: LORA")
        errors += [f"{folder / ADAPTER_CONFIG}: {message}" for message in find_lora_errors(config)]
    except InputError as error:
        errors.append(f"{error}; download or train the adapter again")
    try:
        shapes = read_shapes(folder / ADAPTER_WEIGHTS)
    except InputError as error:
        errors.append(str(error))
    if errors:
        raise InputError(*errors)
    return config, shapes


def find_lora_errors(config: dict[str, Any]) -> list[str]:
    """Checks what PEFT does not check, or reports in other words, in the configuration of a LoRA adapter."""
    errors = [f"{key}: {message}" for key, message in strict_json.find_unusable(config)]
    if errors:
        return errors
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    if type(rank) is not int or not 0 < rank <= MAX_INTEGER:
        errors.append(f"r: got {repr(rank):.60}; allowed: an integer from 1 to {MAX_INTEGER}")
    if type(alpha) not in (int, float) or not 0 < alpha <= MAX_INTEGER:
        errors.append(f"lora_alpha: got {repr(alpha):.60}; allowed: a number above 0, up to {MAX_INTEGER}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        errors.append(
            f"init_lora_weights: got {repr(start):.60}, with which PEFT changes the weights of the base model, "
            f"also for the reference; save the adapter with PEFT's path_initial_model_for_weight_conversion"
        )
    if config.get("alora_invocation_tokens") is not None:
        errors.append("alora_invocation_tokens: is set; an activated LoRA is not supported; name another adapter")
    return errors
