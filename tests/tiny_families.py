"""Tiny random models of Llama 3, Qwen 3 and Gemma 3, with the special tokens of each, for the recipes in args/."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tiny_models import ROOT, write_tiny_tokenizer
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from response_generator.config.args_file import ArgsFile

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
    "initializer_range": 0.3,
}


@dataclass(frozen=True)
class Family:
    """`special_tokens`: of its vocabulary; `named`: which of them are BOS, EOS and pad token in its own tokenizer."""

    special_tokens: list[str]
    named: dict[str, str]


FAMILIES = {
    "llama3": Family(
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>"],
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    ),
    "qwen3": Family(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"],
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    ),
    "gemma3": Family(
        ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
    ),
}


def build_model(family: str, **fields) -> PreTrainedModel:
    if family == "llama3":
        rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0}
        rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
        return LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=rope, **fields))
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32, **fields))
    # A window shorter than the prompts, so that the layer with sliding attention does not see all of them.
    layers = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**SIZES, head_dim=32, sliding_window=16, layer_types=layers, **fields)
    return Gemma3ForCausalLM(config)


def write_tiny_family(family: str, folder: Path) -> None:
    """Writes a base model of the family with its tokenizer."""
    tokenizer = write_tiny_tokenizer(folder, FAMILIES[family].special_tokens, **FAMILIES[family].named)
    torch.manual_seed(0)
    fields = {name: tokenizer.convert_tokens_to_ids(token) for name, token in FAMILIES[family].named.items()}
    model = build_model(family, vocab_size=len(tokenizer), **{f"{name}_id": number for name, number in fields.items()})
    model.to(torch.bfloat16).save_pretrained(folder)


def read_recipe(family: str, program: str, base: Path, output: Path, **changes) -> dict:
    """args/FAMILY/PROGRAM_arg.json with another base model and output folder, and two steps of training."""
    values = ArgsFile.read(ROOT / "args" / family / f"{program}_arg.json").values
    values |= {"base_model": str(base), "output_dir": str(output), "wandb": {"mode": "disabled"}}
    values["chat_template"]["file"] = str(ROOT / values["chat_template"]["file"])
    for section in ("sft", "dpo"):
        if section in values:
            values[section] |= {"max_steps": 2, "optim": "adamw_torch"}  # 8-bit optimizers need a GPU
    if "generation" in values:
        values["generation"]["max_new_tokens"] = 8
    return values | changes
