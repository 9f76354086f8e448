"""The keywords of DPOConfig, LoraConfig, GenerationConfig and from_pretrained, with the JSON kinds each accepts.

Arguments are checked before torch is imported, so the libraries cannot be asked at that moment. Their answers are
kept in library_keywords.json; a test compares the file with the pinned libraries, and after a new pin

    python -m response_generator.config.library_keywords

writes it anew.
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
DOCSTRING_WORDS = {
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

# transformers' from_pretrained takes these out of **kwargs and documents them only in prose.
TRANSFORMERS_FROM_PRETRAINED = {
    "attn_implementation": ["string", "null"],
    "low_cpu_mem_usage": ["boolean"],
    "max_memory": ["object", "null"],
    "offload_folder": ["string", "null"],
}
# Not DPOConfig's: the arguments of transformers' EarlyStoppingCallback, which has no other place in an args file.
EARLY_STOPPING = {"early_stopping_patience": ["integer", "null"], "early_stopping_threshold": ["number"]}
COMMON_TO_BOTH = {"load_in_4bit", "dtype", "device_map", "trust_remote_code"}
# Ours to set: naming them twice would let the two places disagree. `token` never belongs in a file.
NOT_IN_SECTION = {
    "dpo": {
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
    """`{keyword: JSON kinds}` of one section: "dpo", "lora", "generation", "from_pretrained". No kinds: any."""
    return {key: kinds.split() for key, kinds in json.loads(FILE.read_text(encoding="utf-8"))[section].items()}


def unsloth_only_keywords() -> set[str]:
    """Keywords of from_pretrained that plain transformers does not know."""
    return set(json.loads(FILE.read_text(encoding="utf-8"))["unsloth_only"])


def json_type_of(value) -> str:
    """What JSON calls a value, with integers told from other numbers."""
    return JSON_TYPE_OF_PYTHON_TYPE[type(value)]


def read_from_libraries() -> dict[str, Any]:
    """Asks the installed libraries. Run it in a process of its own: it loads unsloth's GPU code without a GPU."""
    import os

    os.environ["UNSLOTH_ALLOW_CPU"] = "1"
    import unsloth  # noqa: F401, I001  (before trl and transformers, or its patches are lost)
    from dataclasses import fields
    from inspect import signature
    from typing import get_type_hints

    from peft import LoraConfig
    from transformers import GenerationConfig, LlamaConfig
    from trl import DPOConfig
    from unsloth import FastLanguageModel
    from unsloth_zoo.cpu import FastCPUModel

    from_pretrained = dict(TRANSFORMERS_FROM_PRETRAINED)
    for name, hint in LlamaConfig.__annotations__.items():
        from_pretrained[name] = json_types_of_hint(hint)
    for loader in (FastCPUModel, FastLanguageModel):
        for name, parameter in signature(loader.from_pretrained).parameters.items():
            from_pretrained.setdefault(name, json_types_of_default(parameter.default))
    from_pretrained["use_gradient_checkpointing"] = ["boolean", "string"]

    transformers_own = set(TRANSFORMERS_FROM_PRETRAINED) | set(LlamaConfig.__annotations__) | COMMON_TO_BOTH
    hints, lora_hints = get_type_hints(DPOConfig), get_type_hints(LoraConfig)
    generation = {name: [] for name in vars(GenerationConfig()) if not name.startswith("_")}
    for name, words in re.findall(r"^\s{8}(\w+) \(([^)]*)\)", GenerationConfig.__doc__, re.MULTILINE):
        generation[name] = json_types_of_words(words)
    sections = {
        "dpo": {field.name: json_types_of_hint(hints[field.name]) for field in fields(DPOConfig)} | EARLY_STOPPING,
        "lora": {field.name: json_types_of_hint(lora_hints[field.name]) for field in fields(LoraConfig)},
        "generation": generation,
        "from_pretrained": from_pretrained,
    }
    accepted = {
        section: {name: " ".join(keywords[name]) for name in sorted(set(keywords) - NOT_IN_SECTION[section])}
        for section, keywords in sections.items()
    }
    return accepted | {"unsloth_only": sorted(set(accepted["from_pretrained"]) - transformers_own)}


def json_types_of_hint(hint) -> list[str]:
    """JSON kinds that a type annotation admits; an enum is written as its string; unknown types admit anything."""
    from enum import Enum
    from types import UnionType
    from typing import Literal, Union, get_args, get_origin

    if get_origin(hint) in (Union, UnionType):
        return sorted({kind for member in get_args(hint) for kind in json_types_of_hint(member)})
    if get_origin(hint) is Literal:
        return sorted({JSON_TYPE_OF_PYTHON_TYPE[type(value)] for value in get_args(hint)})
    base = get_origin(hint) or hint
    if isinstance(base, type) and issubclass(base, Enum):
        return ["string"]
    return [JSON_TYPE_OF_PYTHON_TYPE[base]] if base in JSON_TYPE_OF_PYTHON_TYPE else []


def json_types_of_default(default) -> list[str]:
    return [JSON_TYPE_OF_PYTHON_TYPE[type(default)]] if type(default) in (bool, int, float, str) else []


def json_types_of_words(words: str) -> list[str]:
    """Kinds named in a docstring such as "`int`, *optional*"; unknown words admit anything."""
    types = re.findall(r"\w+", re.sub(r"\[[^`]*", "", words.split("default")[0]))
    if not types or any(word not in DOCSTRING_WORDS and word != "or" for word in types):
        return []
    return sorted({DOCSTRING_WORDS[word] for word in types if word != "or"} | {"null"})


if __name__ == "__main__":
    FILE.write_text(json.dumps(read_from_libraries(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {FILE}")
