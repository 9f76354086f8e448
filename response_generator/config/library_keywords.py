"""The keywords of TRL's, PEFT's and transformers' configurations and of from_pretrained, with their JSON types.

Arguments are checked before torch is imported, so the keywords cannot be read from the libraries at that time. They
are stored in library_keywords.json, and a test compares that file with the pinned libraries. After changing a pinned
version, write the file again:

    python -m response_generator.config.library_keywords
"""

import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")

JSON_TYPE_OF_PYTHON_TYPE = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "list",
    tuple: "list",
    dict: "object",
    type(None): "null",
}
JSON_TYPE_OF_DOCSTRING_WORD = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "list": "list",
    "tuple": "list",
    "dict": "object",
    "None": "null",
    "optional": "null",
}

# from_pretrained of transformers accepts these as **kwargs, so its signature does not show them.
TRANSFORMERS_FROM_PRETRAINED = {
    "attn_implementation": ["string", "null"],
    "low_cpu_mem_usage": ["boolean"],
    "max_memory": ["object", "null"],
    "offload_folder": ["string", "null"],
}
# Arguments of EarlyStoppingCallback (transformers), not fields of TRL's configurations; dpo and sft accept them too.
EARLY_STOPPING = {"early_stopping_patience": ["integer", "null"], "early_stopping_threshold": ["number"]}
SHARED_PREFIX = {"shared_prefix": ["boolean"]}  # of this program: both replies of a pair share their prompt
COMMON_TO_BOTH = {"load_in_4bit", "dtype", "device_map", "trust_remote_code"}
# Set by this program from other keys, so that no value has two sources. `token` must not be written into a file.
SET_BY_THIS_PROGRAM = {  # of the fields that DPO and SFT share
    "output_dir",
    "seed",
    "report_to",
    "run_name",
    "project",
    "hub_token",
    "disable_tqdm",
    "model_init_kwargs",
    "resume_from_checkpoint",
    "restore_callback_states_from_checkpoint",
    "dataset_num_proc",
    "push_to_hub",
    "hub_model_id",
    "hub_strategy",
    "hub_private_repo",
    "hub_always_push",
    "hub_revision",
    "pad_token",
}
KEYWORDS_NOT_ACCEPTED = {
    "dpo": SET_BY_THIS_PROGRAM,
    "sft": SET_BY_THIS_PROGRAM
    | {
        "assistant_only_loss",
        "chat_template_path",
        "completion_only_loss",
        "dataset_kwargs",
        "dataset_text_field",
        "eos_token",
        "eval_packing",
        "packing_strategy",
        "shuffle_dataset",
    },
    "trainer": SET_BY_THIS_PROGRAM
    | {
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "logging_strategy",
        "logging_steps",
        "eval_strategy",
        "use_cpu",
    },
    "lora": {
        "peft_type",
        "peft_version",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "task_type",
        "runtime_config",
    },
    "generation": {
        "pad_token_id",
        "eos_token_id",
        "bos_token_id",
        "num_return_sequences",
        "transformers_version",
        "return_dict_in_generate",
        "stop_strings",
        "token_healing",
    },
    "from_pretrained": {"model_name", "token", "args", "kwargs", "on_model_resolved", "revision", "tokenizer_name"},
}


def accepted_json_types(section: str) -> dict[str, list[str]]:
    """Returns `{keyword: JSON types}` of one of KEYWORD_SECTIONS.

    An empty list of types means that any type is accepted.
    """
    return {key: types.split() for key, types in json.loads(FILE.read_text(encoding="utf-8"))[section].items()}


def unsloth_only_keywords() -> set[str]:
    """Returns the keywords of from_pretrained that unsloth accepts and transformers does not."""
    return set(json.loads(FILE.read_text(encoding="utf-8"))["unsloth_only"])


def json_type_of(value) -> str:
    """Returns the JSON type of a value; integers are "integer", other numbers "number"."""
    return JSON_TYPE_OF_PYTHON_TYPE[type(value)]


def read_from_libraries() -> dict[str, Any]:
    """Reads the keywords from the installed libraries. Call it in a separate process: it imports unsloth's GPU code."""
    import os

    os.environ["UNSLOTH_ALLOW_CPU"] = "1"
    import unsloth  # noqa: F401, I001  (must be imported before trl and transformers to patch them)
    from dataclasses import fields
    from inspect import signature
    from typing import get_type_hints

    from peft import LoraConfig
    from transformers import GenerationConfig, LlamaConfig, TrainingArguments
    from trl import DPOConfig, SFTConfig
    from unsloth import FastLanguageModel
    from unsloth_zoo.cpu import FastCPUModel

    from_pretrained = dict(TRANSFORMERS_FROM_PRETRAINED)
    for name, hint in LlamaConfig.__annotations__.items():
        from_pretrained[name] = json_types_of_hint(hint)
    for loader in (FastCPUModel, FastLanguageModel):
        for name, parameter in signature(loader.from_pretrained).parameters.items():
            from_pretrained.setdefault(name, json_types_of_default(parameter.default))
    from_pretrained["use_gradient_checkpointing"] = ["boolean", "string"]

    known_to_transformers = set(TRANSFORMERS_FROM_PRETRAINED) | set(LlamaConfig.__annotations__) | COMMON_TO_BOTH
    dpo_hints, sft_hints, lora_hints = map(get_type_hints, (DPOConfig, SFTConfig, LoraConfig))
    trainer_hints = get_type_hints(TrainingArguments)
    generation = {name: [] for name in vars(GenerationConfig()) if not name.startswith("_")}
    for name, text in re.findall(r"^\s{8}(\w+) \(([^)]*)\)", GenerationConfig.__doc__, re.MULTILINE):
        generation[name] = json_types_of_docstring(text)
    sections = {
        "dpo": {field.name: json_types_of_hint(dpo_hints[field.name]) for field in fields(DPOConfig)}
        | EARLY_STOPPING
        | SHARED_PREFIX,
        "sft": {field.name: json_types_of_hint(sft_hints[field.name]) for field in fields(SFTConfig)} | EARLY_STOPPING,
        "trainer": {field.name: json_types_of_hint(trainer_hints[field.name]) for field in fields(TrainingArguments)},
        "lora": {field.name: json_types_of_hint(lora_hints[field.name]) for field in fields(LoraConfig)},
        "generation": generation,
        "from_pretrained": from_pretrained,
    }
    accepted = {
        section: {name: " ".join(keywords[name]) for name in sorted(set(keywords) - KEYWORDS_NOT_ACCEPTED[section])}
        for section, keywords in sections.items()
    }
    return accepted | {"unsloth_only": sorted(set(accepted["from_pretrained"]) - known_to_transformers)}


def json_types_of_hint(hint) -> list[str]:
    """Returns the JSON types that a type annotation accepts: "string" for an enum, [] (any) for unknown types."""
    from enum import Enum
    from types import UnionType
    from typing import Literal, Union, get_args, get_origin

    if get_origin(hint) in (Union, UnionType):
        return sorted({json_type for member in get_args(hint) for json_type in json_types_of_hint(member)})
    if get_origin(hint) is Literal:
        return sorted({JSON_TYPE_OF_PYTHON_TYPE[type(value)] for value in get_args(hint)})
    base = get_origin(hint) or hint
    if isinstance(base, type) and issubclass(base, Enum):
        return ["string"]
    return [JSON_TYPE_OF_PYTHON_TYPE[base]] if base in JSON_TYPE_OF_PYTHON_TYPE else []


def json_types_of_default(default) -> list[str]:
    return [JSON_TYPE_OF_PYTHON_TYPE[type(default)]] if type(default) in (bool, int, float, str) else []


def json_types_of_docstring(text: str) -> list[str]:
    """Returns the JSON types named in a docstring such as "`int`, *optional*"; [] (any) for unknown words."""
    words = re.findall(r"\w+", re.sub(r"\[[^`]*", "", text.split("default")[0]))
    if not words or any(word not in JSON_TYPE_OF_DOCSTRING_WORD and word != "or" for word in words):
        return []
    return sorted({JSON_TYPE_OF_DOCSTRING_WORD[word] for word in words if word != "or"} | {"null"})


if __name__ == "__main__":
    FILE.write_text(json.dumps(read_from_libraries(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {FILE}")
