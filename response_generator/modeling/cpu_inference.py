"""Faster inference on a processor: 4-bit weights are dequantized once, and attention of one token copies no keys."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from response_generator.modeling.backend import has_unsloth_forward

GROUPED_SDPA = "grouped_sdpa"
MAX_MEMORY_SHARE = 0.25  # of the free memory, for the dequantized weights


def attend(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attention with transformers' interface.

    For a single new token, the heads that share keys and values are passed as the tokens of one head. transformers'
    own function copies keys and values for each head instead, at every token.

    Args:
        query: (rows, heads, tokens, head size).
        key, value: (rows, key heads, all tokens, head size).

    Returns:
        (rows, tokens, heads, head size), and None for the weights.
    """
    rows, heads, tokens, size = query.shape
    if tokens > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    grouped = query.reshape(rows, key.shape[1], -1, size)
    output = scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    return output.reshape(rows, 1, heads, -1), None


AttentionInterface.register(GROUPED_SDPA, attend)
AttentionMaskInterface.register(GROUPED_SDPA, sdpa_mask)


class DenseLinear(nn.Module):
    """A linear layer whose weight is not quantized, with LoRA computed in the weight's dtype.

    weight: (out, in). lora: pairs (A, B, scaling), see PEFT.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, lora: list[tuple]):
        super().__init__()
        self.weight, self.bias = weight, None if bias is None else bias.to(weight.dtype)
        self.lora = [(a.to(weight.dtype), b.to(weight.dtype), scaling) for a, b, scaling in lora]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = x.to(self.weight.dtype)
        output = linear(inputs, self.weight, self.bias)
        for a, b, scaling in self.lora:
            flat = output.reshape(-1, output.shape[-1])
            hidden = linear(inputs, a).reshape(-1, a.shape[0])
            output = torch.addmm(flat, hidden, b.t(), alpha=scaling).reshape(output.shape)
        return output.to(x.dtype)


@contextmanager
def fast_cpu_inference(model: PeftModel | PreTrainedModel) -> Iterator[None]:
    """Speeds up forward passes of the active adapter inside the block. On a GPU it changes nothing, nor with unsloth's
    code for GPUs, which reads the LoRA weights from PEFT's layers.

    LoRA is computed in the dtype of the base's activations, as unsloth's kernels do on a GPU. PEFT alone computes it in
    the dtype of the LoRA weights. The dequantized weights need two or four bytes each; where that is more than
    MAX_MEMORY_SHARE of the free memory, the weights stay in 4 bits.
    """
    if model.device.type != "cpu" or has_unsloth_forward(model):
        yield
        return
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    attention = base.config._attn_implementation
    replaced = find_replaceable_layers(base)
    dense_bytes = sum(count_dense_bytes(layer) for layer in replaced.values())
    if dense_bytes > MAX_MEMORY_SHARE * psutil.virtual_memory().available:
        replaced = {}
    try:
        if attention == "sdpa":
            base.set_attn_implementation(GROUPED_SDPA)
        for name, layer in replaced.items():
            base.set_submodule(name, to_dense(layer))
        yield
    finally:
        for name, layer in replaced.items():
            base.set_submodule(name, layer)
        base.set_attn_implementation(attention)


def find_replaceable_layers(base: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers that `DenseLinear` can compute, by name: 4-bit ones, and those with plain LoRA."""
    found = {}
    for name, module in base.named_modules():
        if isinstance(module, LoraLinear4bit | LoraLinear):
            if has_plain_lora(module):
                found[name] = module
        elif isinstance(module, Linear4bit) and not name.endswith(".base_layer"):
            found[name] = module
    return found


def has_plain_lora(layer: LoraLayer) -> bool:
    adapters = list_active_adapters(layer)
    special = any(name in layer.lora_variant or layer.lora_bias[name] for name in adapters)
    base = type(layer.get_base_layer())
    return base in (Linear4bit, nn.Linear) and not (special or layer.merged or getattr(layer, "fan_in_fan_out", False))


def list_active_adapters(layer: LoraLayer) -> list[str]:
    return [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]


def count_dense_bytes(layer: nn.Module) -> int:
    base = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
    return base.in_features * base.out_features * get_dtype(base).itemsize if isinstance(base, Linear4bit) else 0


def get_dtype(layer: Linear4bit) -> torch.dtype:
    return layer.compute_dtype or layer.weight.quant_state.dtype


def to_dense(layer: nn.Module) -> DenseLinear:
    base = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
    lora = []
    if isinstance(layer, LoraLayer):
        lora = [
            (layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach(), layer.scaling[name])
            for name in list_active_adapters(layer)
        ]
    weight = base.weight.detach()
    if isinstance(base, Linear4bit):
        state = copy.copy(base.weight.quant_state)
        state.dtype = get_dtype(base)
        weight = dequantize_4bit(base.weight.data, state)
    return DenseLinear(weight, base.bias, lora)
