"""Estimates the peak memory of a DPO run, part by part, from shapes alone; no weight is loaded. All sizes are in bytes.

docs/memory.md derives every formula. It assumes a decoder like Llama.
"""

import math
import re
from dataclasses import astuple, dataclass

import torch
from peft import LoraConfig, get_peft_model
from transformers import PretrainedConfig, PreTrainedModel
from trl import DPOConfig

from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.base_config import build_meta_model

Shapes = dict[str, tuple[int, ...]]  # shapes of an adapter's tensors, by their names in its file

BF16_BYTES, FP32_BYTES = 2, 4  # per number


@dataclass(frozen=True)
class Batch:
    """`sequences` (two per pair), each padded to `length` tokens; `replies` is the number of tokens in the loss."""

    sequences: int
    length: int
    replies: int

    @property
    def tokens(self) -> int:
        return self.sequences * self.length


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of each part at the peak of a training step."""

    process: int  # held by the process before the model is loaded; 0 on a GPU
    weights: int  # frozen base model
    adapters: int  # policy and reference, both in fp32
    optimizer: int  # gradients and optimizer state
    activations: int  # kept by the policy's forward pass for its backward pass
    layer: int  # temporary tensors of one layer, with what gradient checkpointing recomputes
    lm_head: int  # temporary tensors of the LM head
    allocator: int  # CPU only: freed memory that the C library does not return

    @property
    def total(self) -> int:
        # A layer and the LM head never compute at the same time.
        return sum(astuple(self)) - min(self.layer, self.lm_head)


def name_parts(estimate: MemoryEstimate) -> list[tuple[str, int]]:
    """Title and bytes of the parts that add up to the total."""
    parts = [
        ("process before the model", estimate.process),
        ("base model", estimate.weights),
        ("adapter and reference", estimate.adapters),
        ("gradients and optimizer", estimate.optimizer),
        ("activations of the longest batch", estimate.activations),
        ("a layer or the LM head at work", max(estimate.layer, estimate.lm_head)),
        ("freed, kept by the C library", estimate.allocator),
    ]
    return [(name, size) for name, size in parts if size]


def estimate_memory(
    base: PretrainedConfig,
    adapter: Shapes,
    batch: Batch,
    dpo: DPOConfig,
    *,
    four_bit: bool,
    attention: str | None = "sdpa",
    fused: bool = False,
    offloaded: bool = False,
    process: int = 0,
    width: int = BF16_BYTES,
) -> MemoryEstimate:
    """Estimates the peak memory of one process; see docs/memory.md.

    Args:
        adapter: shapes of the trained tensors.
        batch: the largest batch.
        dpo: its device, gradient checkpointing and optimizer are read.
        four_bit: whether the linear layers of the base model are quantized.
        attention: sdpa, eager or flash_attention_2.
        fused: whether unsloth's GPU kernels run.
        offloaded: whether unsloth's gradient checkpointing moves layer inputs to CPU memory.
        process: resident bytes before the model is loaded, see `device_memory.get_process_rss_bytes`.
        width: bytes per number of the compute dtype.
    """
    layers = range(base.num_hidden_layers)
    by_layer = [layer_bytes(base, adapter, number, batch, attention, fused, width) for number in layers]
    layer = working_bytes(base, batch, fused, width)
    if dpo.gradient_checkpointing:
        # The input of every layer is kept; unsloth keeps the last one and two buffers on the GPU.
        inputs = 3 if offloaded else base.num_hidden_layers
        kept = inputs * width * batch.tokens * base.hidden_size
        allocator = base.num_hidden_layers * layer  # fitted to measured runs, like the 5/4 below
        layer += max(by_layer)
    else:
        # The backward pass ends at the first layer with an adapter.
        first = min((number for number in map(parse_layer_number, adapter) if number is not None), default=0)
        kept = sum(by_layer[first:])
        allocator = 5 * kept // 4
    trained = count_parameters(adapter)
    return MemoryEstimate(
        process=process,
        weights=weight_bytes(build_meta_model(base), four_bit, mapped=dpo.use_cpu, width=width),
        adapters=2 * FP32_BYTES * trained,
        optimizer=(FP32_BYTES + moment_bytes(dpo.optim)) * trained,
        activations=kept,
        layer=layer,
        lm_head=lm_head_bytes(base, batch, dpo.use_cpu, width),
        allocator=allocator if dpo.use_cpu else 0,
    )


def get_trained_shapes(adapter: AdapterFile) -> Shapes:
    """Shapes of the tensors that a run trains. Embeddings that an adapter only replaces stay frozen."""
    frozen = adapter.replaces_base_embeddings
    return {name: shape for name, shape in adapter.shapes.items() if ".lora_" in name or not frozen}


def get_new_lora_shapes(base: PretrainedConfig, lora: LoraConfig) -> Shapes:
    """Shapes of the tensors that PEFT creates for a new LoRA."""
    with torch.device("meta"):
        weights = get_peft_model(build_meta_model(base), lora).named_parameters()
    return {name.replace(".default", ""): tuple(weight.shape) for name, weight in weights if weight.requires_grad}


def count_parameters(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes.values()))


def get_longest_batch(lengths: dict[str, list[int]], pairs: int) -> Batch:
    """The largest possible batch of `pairs`, from token counts (`TokenizedPairs.lengths`).

    TRL pads all sequences of a batch to the longest one, so every sequence gets the length of the longest pair.
    """
    replies = sorted(map(sum, zip(lengths["chosen"], lengths["rejected"], strict=True)), reverse=True)
    return Batch(2 * min(pairs, len(replies)), max(lengths["whole"]), sum(replies[:pairs]))


def weight_bytes(model: PreTrainedModel, four_bit: bool, mapped: bool, width: int = BF16_BYTES) -> int:
    """Bytes of the base model; all linear layers but the LM head are in 4 bits. See docs/memory.md, "Base model".

    Args:
        mapped: whether the pages of the memory-mapped 16-bit checkpoint count as memory of the process (CPU).
    """
    modules = model.modules() if four_bit else []
    head = model.get_output_embeddings()
    linear = [each.weight.numel() for each in modules if isinstance(each, torch.nn.Linear) and each is not head]
    whole = sum(weight.numel() for weight in model.parameters())
    kept = whole - sum(linear)
    pages = BF16_BYTES * whole + (width * kept if width != BF16_BYTES else 0)
    return (pages if mapped else width * kept) + sum(map(four_bit_bytes, linear))


def four_bit_bytes(numbers: int) -> int:
    """Bytes of a 4-bit weight with double quantization (QLoRA, arXiv 2305.14314, section 3); see docs/memory.md."""
    blocks = math.ceil(numbers / 64)
    return math.ceil(numbers / 2) + blocks + FP32_BYTES * (math.ceil(blocks / 256) + 1 + 16 + 256)


def moment_bytes(optim: str) -> int:
    """Optimizer state per trained parameter; an optimizer that is not listed here counts as AdamW."""
    return 0 if optim == "sgd" else 2 if "8bit" in optim else 8


def parse_layer_number(name: str) -> int | None:
    found = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", name)
    return int(found[1]) if found else None


def layer_bytes(
    base: PretrainedConfig, adapter: Shapes, number: int, batch: Batch, attention: str | None, fused: bool, width: int
) -> int:
    """Activations that one layer keeps for its backward pass; see docs/memory.md, "Activations"."""
    head = getattr(base, "head_dim", None) or base.hidden_size // base.num_attention_heads
    queries = head * base.num_attention_heads
    keys = head * (getattr(base, "num_key_value_heads", None) or base.num_attention_heads)
    if fused:
        return width * batch.tokens * 2 * (2 * base.hidden_size + queries + keys + get_mlp_size(base))
    adapted = sum(
        sum(shape) for name, shape in adapter.items() if parse_layer_number(name) == number and ".lora_A." in name
    )
    scores = {"eager": (FP32_BYTES + width) * base.num_attention_heads, "flash_attention_2": 0}.get(attention, width)
    numbers = 4 * queries + 3 * get_mlp_size(base) + adapted
    return batch.tokens * (2 * FP32_BYTES * base.hidden_size + width * numbers + scores * batch.length)


def working_bytes(base: PretrainedConfig, batch: Batch, fused: bool, width: int = BF16_BYTES) -> int:
    """Temporary tensors of a layer at its widest place, the down projection; see docs/memory.md."""
    copies = width if fused or width == FP32_BYTES else BF16_BYTES + FP32_BYTES + BF16_BYTES
    return get_mlp_size(base) * (copies * batch.tokens + width * base.hidden_size)


def get_mlp_size(base: PretrainedConfig) -> int:
    """Width of the MLP. GPT-2 calls it n_inner; null there means four times the hidden size."""
    return getattr(base, "intermediate_size", None) or getattr(base, "n_inner", None) or 4 * base.hidden_size


def lm_head_bytes(base: PretrainedConfig, batch: Batch, cpu: bool, width: int = BF16_BYTES) -> int:
    """Temporary tensors of TRL's chunked LM head on the reply tokens; see docs/memory.md, "Temporary tensors"."""
    states = batch.replies * base.hidden_size
    if not cpu:
        return width * 32768 * min(batch.replies, 4096) + (width + FP32_BYTES + width) * states
    rows = min(batch.replies, max(1, 2**24 // base.vocab_size))
    next_rows = min(rows, batch.replies - rows)
    return (
        base.vocab_size * (2 * FP32_BYTES * rows + max(width * rows, 2 * FP32_BYTES * next_rows)) + 2 * width * states
    )
