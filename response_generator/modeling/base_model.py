"""Loads the base model, frozen, with either backend."""

from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from response_generator.config.library import library_keywords
from response_generator.config.schema import LoadingArguments
from response_generator.config.sources import from_pretrained_keywords
from response_generator.modeling import attention
from response_generator.modeling.backend import has_unsloth_gpu_code, import_unsloth
from response_generator.modeling.precision import get_compute_dtype
from response_generator.runs import distributed, library_output


def load_base(arguments: LoadingArguments) -> PreTrainedModel:
    """Loads the base model with the backend that the args name, and freezes it."""
    keywords = from_pretrained_keywords(arguments.base_model) | arguments.from_pretrained
    requested_attention = keywords.get("attn_implementation")
    if requested_attention is not None:
        keywords["attn_implementation"] = attention.resolve_attn_implementation(requested_attention)
    if keywords.get("dtype") is not None:
        keywords["dtype"] = getattr(torch, keywords["dtype"])  # unsloth's GPU code does not accept a string
    use_cache = keywords.pop("use_cache", None)  # set below: unsloth's loader of Gemma and others does not take it
    load = load_with_unsloth if arguments.backend == "unsloth" else load_with_transformers
    model = load(keywords)
    if use_cache is not None:
        model.config.use_cache = use_cache
    if requested_attention is not None:
        attention.print_attn_change(requested_attention, attention.get_attn_implementation(model))
    print_loaded(model)
    return model.requires_grad_(False)


def load_plain(name: str) -> PreTrainedModel:
    """Loads a causal language model without adapters, frozen, in 16 bits, or in float32 on a processor without bfloat16
    instructions.

    Args:
        name: hub id or folder.
    """
    keywords = from_pretrained_keywords(name)
    if has_unsloth_gpu_code():  # which has replaced the forward passes of transformers' classes
        model = load_with_unsloth(keywords | {"load_in_4bit": False})
        import_unsloth().FastLanguageModel.for_inference(model)
    else:
        model = load_with_transformers(keywords)
    print_loaded(model)
    return model.requires_grad_(False).eval()


def print_loaded(model: PreTrainedModel) -> None:
    bits = "4-bit" if getattr(model, "is_loaded_in_4bit", False) else "16-bit or more"
    dtype = str(model.dtype).removeprefix("torch.")
    attn = attention.get_attn_implementation(model)
    print(f"loaded {type(model).__name__}: {bits} weights, computing in {dtype}, {attn} attention, on {model.device}")


def load_with_unsloth(keywords: dict[str, Any]) -> PreTrainedModel:
    if "revision" in keywords:
        # Otherwise unsloth may load its own pre-quantized copy, from a repository that does not have this revision.
        keywords["use_exact_model_name"] = True
    # The tokenizer that unsloth returns is not used: data, training and generation share that of `load_tokenizer`.
    with library_output.hide_prints():
        loader = import_unsloth().FastLanguageModel
        model, _ = loader.from_pretrained(keywords.pop("pretrained_model_name_or_path"), **keywords)
    return model


def load_with_transformers(keywords: dict[str, Any]) -> PreTrainedModel:
    four_bit = keywords.pop("load_in_4bit", False)
    unused = sorted(set(keywords) & library_keywords.unsloth_only_keywords())
    if unused:
        print(f"backend transformers: keywords of unsloth that are not used: {', '.join(unused)}")
        keywords = {key: value for key, value in keywords.items() if key not in unused}
    if keywords.get("dtype") is None:
        keywords["dtype"] = get_compute_dtype()
        if keywords["dtype"] == torch.float32:
            print("dtype: this processor has no bfloat16 instructions; computing in float32")
    if four_bit:
        # The quantization that unsloth uses.
        keywords["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=get_compute_dtype(),
        )
    if not torch.cuda.is_available():
        keywords["device_map"] = "cpu"
    elif distributed.world_size() > 1:
        # "auto" would split the model of each process over all GPUs.
        keywords["device_map"] = {"": torch.cuda.current_device()}
    model = AutoModelForCausalLM.from_pretrained(**keywords)
    for layer in model.modules():
        # On some CPUs, bitsandbytes repacks 4-bit weights in the first forward pass without gradients, and every later
        # backward pass is wrong.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model


def describe_model(adapted: PeftModel) -> dict[str, Any]:
    """Describes the loaded base model for environment.json."""
    model = adapted.get_base_model()
    return {
        "model": {
            "class": type(model).__name__,
            "loaded_from": model.config.name_or_path,
            "commit": model.config._commit_hash,
            "attention": attention.get_attn_implementation(model),
            "four_bit": bool(getattr(model, "is_loaded_in_4bit", False)),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
        }
    }
