"""What a DPO run holds in memory at its peak, part by part, from shapes alone: no weight is loaded. Sizes are bytes.

A step peaks between its forward passes and the first layers of its backward pass. Base, both adapters and optimizer are
held all the time; the policy's forward pass leaves what backward needs; above that stands, for a moment, the larger of
one layer at work and the LM head. TRL runs the reference after the policy, while the policy's activations wait, but
without gradients, so it adds no more than those two; nor do a precomputed reference or an evaluation.

The base is taken for a decoder of Llama's build: RMSNorm, rotary embeddings, a gated MLP. Others keep about as much.
"""

import math
import re
from dataclasses import astuple, dataclass

import torch
from peft import LoraConfig, get_peft_model
from transformers import PretrainedConfig, PreTrainedModel
from trl import DPOConfig

from response_generator.modeling.adapters import AdapterFile
from response_generator.modeling.meta_model import build_meta_model

Shapes = dict[str, tuple[int, ...]]  # of an adapter's tensors, by their names in its file

BF16_BYTES, FP32_BYTES = 2, 4  # bytes of a bf16 and of an fp32 number


@dataclass(frozen=True)
class Batch:
    """`sequences` (two a pair), each padded to `length` tokens; the loss falls on `replies` tokens in all."""

    sequences: int
    length: int
    replies: int

    @property
    def tokens(self) -> int:
        return self.sequences * self.length


@dataclass(frozen=True)
class MemoryEstimate:
    process: int  # what the process holds before the model; 0 on a card, where the CUDA context is not counted
    weights: int  # the frozen base
    adapters: int  # the trained one and its frozen copy, both fp32
    optimizer: int  # gradients and moments
    activations: int  # what the policy's forward pass keeps for backward
    layer: int  # one layer at work, recomputation included
    lm_head: int  # the LM head at work
    allocator: int  # CPU: freed blocks that the C library keeps

    @property
    def total(self) -> int:
        # A layer and the LM head are never at work together.
        return sum(astuple(self)) - min(self.layer, self.lm_head)


def name_parts(estimate: MemoryEstimate) -> list[tuple[str, int]]:
    """The parts that add up to the total, named for people."""
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
    """Estimates the peak of one process.

    Args:
        adapter: what is trained.
        batch: the largest one.
        dpo: says device, gradient checkpointing and optimizer.
        four_bit: linear layers of the base are quantized.
        attention: sdpa, eager or flash_attention_2.
        fused: unsloth's kernels on a card.
        offloaded: unsloth's checkpoints on a card, which wait for backward in the machine's memory.
        process: resident bytes before the model is loaded, see `process_rss_bytes`.
        width: bytes of the numbers that the model computes with.
    """
    layers = range(base.num_hidden_layers)
    a_layer = [layer_bytes(base, adapter, number, batch, attention, fused, width) for number in layers]
    layer = working_bytes(base, batch, fused, width)
    if dpo.gradient_checkpointing:
        # Every layer's input waits; unsloth leaves the last one and two buffers on the card (its checkpointing code).
        inputs = 3 if offloaded else base.num_hidden_layers
        kept = inputs * width * batch.tokens * base.hidden_size
        allocator = base.num_hidden_layers * layer
        layer += max(a_layer)
    else:
        # Nothing below the first adapted layer needs a gradient.
        first = min((number for number in map(parse_layer_number, adapter) if number is not None), default=0)
        kept = sum(a_layer[first:])
        allocator = 5 * kept // 4
    # glibc (2.36) seldom fits an aligned block into the hole of an equal one: what is freed between two blocks that
    # stay is lost until backward. Fitted to measured runs: one layer's work a layer, or 1.25 times what stays. Blocks
    # above 32 MiB, which glibc should give back at once, made no difference in a run that had them.
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
    """What a run trains of an adapter; embeddings stored as the base's own only replace those."""
    frozen = adapter.replaces_base_embeddings
    return {name: shape for name, shape in adapter.shapes.items() if ".lora_" in name or not frozen}


def get_new_lora_shapes(base: PretrainedConfig, lora: LoraConfig) -> Shapes:
    """What PEFT would make for a new LoRA."""
    with torch.device("meta"):
        weights = get_peft_model(build_meta_model(base), lora).named_parameters()
    return {name.replace(".default", ""): tuple(weight.shape) for name, weight in weights if weight.requires_grad}


def count_parameters(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes.values()))


def get_longest_batch(lengths: dict[str, list[int]], pairs: int) -> Batch:
    """The worst that a batch of `pairs` can be, from token counts (`TokenizedPairs.lengths`).

    Whatever the sampling, one batch has the longest pair, and TRL pads all of that batch, chosen and rejected, to it.
    """
    replies = sorted(map(sum, zip(lengths["chosen"], lengths["rejected"], strict=True)), reverse=True)
    return Batch(2 * min(pairs, len(replies)), max(lengths["whole"]), sum(replies[:pairs]))


def weight_bytes(model: PreTrainedModel, four_bit: bool, mapped: bool, width: int = BF16_BYTES) -> int:
    """A base from a 16-bit checkpoint, its linear layers, but for the LM head, in 4 bits.

    `mapped`: on a CPU the embeddings are read from the mapped checkpoint, whose pages all count as the process's; of
    another width they are a copy.
    """
    modules = model.modules() if four_bit else []
    head = model.get_output_embeddings()
    linear = [each.weight.numel() for each in modules if isinstance(each, torch.nn.Linear) and each is not head]
    whole = sum(weight.numel() for weight in model.parameters())
    kept = whole - sum(linear)
    pages = BF16_BYTES * whole + (width * kept if width != BF16_BYTES else 0)
    return (pages if mapped else width * kept) + sum(map(four_bit_bytes, linear))


def four_bit_bytes(numbers: int) -> int:
    """A weight in 4 bits with double quantization (QLoRA, arXiv 2305.14314, section 3; bitsandbytes' `QuantState`).

    A byte for a block of 64, an fp32 for 256 blocks; an offset and code books of 16 and of 256 fp32.
    """
    blocks = math.ceil(numbers / 64)
    return math.ceil(numbers / 2) + blocks + FP32_BYTES * (math.ceil(blocks / 256) + 1 + 16 + 256)


def moment_bytes(optim: str) -> int:
    """Bytes a trained parameter; optimizers not named here are taken for AdamW."""
    return 0 if optim == "sgd" else 2 if "8bit" in optim else 8


def parse_layer_number(name: str) -> int | None:
    found = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", name)
    return int(found[1]) if found else None


def layer_bytes(
    base: PretrainedConfig, adapter: Shapes, number: int, batch: Batch, attention: str | None, fused: bool, width: int
) -> int:
    """What one layer keeps for its backward.

    transformers' modeling_llama: the norms, an fp32 input each; attention, q, k and v (repeated for every head) and
    its output; the MLP, gate, activated gate and up. PEFT's lora/bnb: each adapted layer's input in 16 bits (on a
    card some of these are one tensor) and what its A makes of it. Eager attention: the scores in fp32 and in 16 bits;
    sdpa: its mask in 16 bits. Fused (unsloth's rms_layernorm and fast_lora): the norms' inputs and outputs, q, k, v
    and attention's output, gate and up.
    """
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
    """What comes and goes at a layer's widest place, before the down projection: its input, for PEFT also in fp32 and
    cast back, and one dequantized weight."""
    copies = width if fused or width == FP32_BYTES else BF16_BYTES + FP32_BYTES + BF16_BYTES
    return get_mlp_size(base) * (copies * batch.tokens + width * base.hidden_size)


def get_mlp_size(base: PretrainedConfig) -> int:
    """GPT-2 calls it n_inner, and means four times the hidden size where it is null."""
    return getattr(base, "intermediate_size", None) or getattr(base, "n_inner", None) or 4 * base.hidden_size


def lm_head_bytes(base: PretrainedConfig, batch: Batch, cpu: bool, width: int = BF16_BYTES) -> int:
    """TRL's fused LM head on the replies: a tile of logits, and the hidden states, copied, with their gradient.

    On a card the tile is 4096 x 32768 in 16 bits and the gradient is summed in fp32 (trl/kernels/chunked_logprob.py);
    on a CPU it has 2^24 logits in fp32, with their softmax in fp32 and then either that in 16 bits or, above what the
    loop has not let go of, two copies of the next tile (unsloth_zoo/cpu/ops.py).
    """
    states = batch.replies * base.hidden_size
    if not cpu:
        return width * 32768 * min(batch.replies, 4096) + (width + FP32_BYTES + width) * states
    rows = min(batch.replies, max(1, 2**24 // base.vocab_size))
    next_rows = min(rows, batch.replies - rows)
    return (
        base.vocab_size * (2 * FP32_BYTES * rows + max(width * rows, 2 * FP32_BYTES * next_rows)) + 2 * width * states
    )
