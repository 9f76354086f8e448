"""The memory of each recipe in docs/recipes.md is what the estimator says of a GPU."""

import re

import pytest
from conftest import ROOT, read_args
from peft import LoraConfig
from test_memory import LLAMA_7B as LLAMA_2_7B
from transformers import Gemma3TextConfig, LlamaConfig, PretrainedConfig, Qwen3Config
from trl import DPOConfig

from response_generator.training.cost import memory

pytestmark = pytest.mark.slow
PROMPT_TOKENS, REPLY_TOKENS = 448, 64  # of the longest pair, as docs/recipes.md says
LLAMA_31_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
QWEN3_8B = Qwen3Config(
    vocab_size=151936,
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
)
GEMMA3_1B = Gemma3TextConfig(
    vocab_size=262144,
    hidden_size=1152,
    intermediate_size=6912,
    num_hidden_layers=26,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
)
# The base model, and the args of SFT with the LoRA that the recipe trains on.
RECIPES = {
    "dpo_arg.json": (LLAMA_2_7B, "sft_arg.json"),
    "dpo_12gb_arg.json": (LLAMA_2_7B, "sft_arg.json"),
    "dpo_two_gpus_arg.json": (LLAMA_2_7B, "sft_arg.json"),
    "dpo_16bit_arg.json": (LLAMA_2_7B, "sft_arg.json"),
    "llama3/dpo_arg.json": (LLAMA_31_8B, "llama3/sft_arg.json"),
    "qwen3/dpo_arg.json": (QWEN3_8B, "qwen3/sft_arg.json"),
    "gemma3/dpo_arg.json": (GEMMA3_1B, "gemma3/sft_arg.json"),
}


def estimate_gb(recipe: str, base: PretrainedConfig, sft: str) -> float:
    values = read_args(recipe)
    dpo, loading = values["dpo"], values["from_pretrained"]
    lora = LoraConfig(**read_args(sft)["lora"], task_type="CAUSAL_LM")
    pairs = dpo["per_device_train_batch_size"]
    replies = 2 * pairs * REPLY_TOKENS
    # unsloth's kernel takes all pairs in one row with shared prompts.
    shared = memory.Batch(1, pairs * (PROMPT_TOKENS + 2 * (REPLY_TOKENS - 1)), replies)
    separate = memory.Batch(2 * pairs, PROMPT_TOKENS + REPLY_TOKENS, replies)
    is_fast = base.model_type != "gemma3_text"  # one of unsloth's fast models
    config = DPOConfig(report_to=[], gradient_checkpointing=True, bf16=False)
    config.use_cpu, config.optim = False, dpo["optim"]  # as on a GPU
    estimates = [
        memory.estimate_memory(
            base,
            memory.get_new_lora_shapes(base, lora),
            batch,
            config,
            four_bit=loading["load_in_4bit"],
            fused=is_fast,
            offloaded=loading["use_gradient_checkpointing"] == "unsloth",
        )
        for batch in {True: [shared], False: [separate], "auto": [shared, separate]}[dpo.get("shared_prefix", "auto")]
    ]
    return max(estimate.total for estimate in estimates) / 1e9


def read_documented() -> dict[str, float]:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    return {name: float(size) for name, size in re.findall(r"^\| `args/(\S+)` \|.*\| (\d+\.\d) GB \|", page, re.M)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_documented_memory_is_the_estimators(recipe):
    assert read_documented()[recipe] == pytest.approx(estimate_gb(recipe, *RECIPES[recipe]), abs=0.051)


def test_recipes_fit_the_cards_that_they_are_named_after():
    sizes = {recipe: estimate_gb(recipe, *found) for recipe, found in RECIPES.items()}
    assert sizes["dpo_12gb_arg.json"] < 11.0  # a GB is left for CUDA itself
    assert max(sizes.values()) < 23.0


def test_every_recipe_is_documented():
    assert set(read_documented()) == set(RECIPES)


@pytest.mark.parametrize("recipe", ["dpo_12gb_arg.json", "dpo_two_gpus_arg.json", "dpo_16bit_arg.json"])
def test_a_recipe_of_llama_2_keeps_the_original_batch_and_settings(recipe):
    original, values = read_args("dpo_arg.json"), read_args(recipe)
    gpus = 2 if "two_gpus" in recipe else 1
    dpo = values["dpo"]
    assert dpo["per_device_train_batch_size"] * dpo["gradient_accumulation_steps"] * gpus == 8
    changed = {key for key in dpo if dpo[key] != original["dpo"][key]}
    assert changed <= {"per_device_train_batch_size", "gradient_accumulation_steps", "optim"}
