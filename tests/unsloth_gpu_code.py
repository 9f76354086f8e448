"""unsloth's GPU model code on a processor: importing this module loads it, in place of its CPU backend.

Triton's kernels, and what asks for a card, are replaced here, each by the plain torch or transformers code of the same
function. The rest is unsloth's own, as a card gets it: loader, fast Llama forward, fused LoRA, decoding, trainer and
the patches of TRL, which UNSLOTH_ALLOW_CPU=1 alone leaves out. 4-bit kernels, flash attention and a card's memory
cannot be had. Import it first, in a process of its own: unsloth chooses its code once a process.
"""

import contextlib
import os
from unittest import mock

os.environ |= {
    "UNSLOTH_ALLOW_CPU": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "UNSLOTH_BLOCK_COMPILE": "0",  # tracing takes 12 seconds; "1" before a model is loaded has its layers compiled
    "UNSLOTH_DISABLE_STATISTICS": "1",  # it would ask the card for its size
}
from response_generator.modeling.backend import import_backend

import_backend("unsloth")  # first: it patches the others

import torch
from torch.nn.attention import flex_attention
from transformers.models.llama import modeling_llama
from unsloth.kernels import cross_entropy_loss, fast_lora, qk_norm_rope
from unsloth.models import _utils, llama, loader, qwen3, rl, vision
from unsloth.utils import attention_dispatch, prefix_grouper_kernel

TransformersRotaryEmbedding = modeling_llama.LlamaRotaryEmbedding  # unsloth replaces them when it loads a model
transformers_rms_norm = modeling_llama.LlamaRMSNorm.forward


class RotaryEmbedding(TransformersRotaryEmbedding):
    """For unsloth's tables of cosines and sines, one a card: transformers' own, asked in unsloth's way."""

    def extend_rope_embedding(self, *args, **kwargs):
        """The tables have no size to extend; they are computed when they are asked for."""

    def get_cached(self, seq_len: int, device_index: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        cosines, sines = TransformersRotaryEmbedding.forward(self, self.inv_freq, torch.arange(seq_len)[None])
        return cosines[0], sines[0]


def rotate(queries, keys, cosines, sines, position_ids=None):
    """For the Triton kernel of rotary embeddings."""
    rows = slice(queries.shape[2]) if position_ids is None else position_ids.long()
    cosines, sines = cosines[rows].to(queries.dtype), sines[rows].to(queries.dtype)
    if position_ids is None:
        cosines, sines = cosines[None], sines[None]
    return modeling_llama.apply_rotary_pos_emb(queries, keys, cosines, sines)


def rms_norm(layer, states, **options):
    """For the Triton kernel of RMSNorm; its options choose what it keeps for backward."""
    return transformers_rms_norm(layer, states)


def gated(gate, up):
    """For the Triton kernel of SwiGLU's forward."""
    return torch.nn.functional.silu(gate.float()).to(gate.dtype) * up


def gated_backward(grad, gate, up):
    """For the Triton kernel of SwiGLU's backward, which writes its three results over its arguments."""
    sigmoid = gate.float().sigmoid()
    activated = (gate.float() * sigmoid).to(gate.dtype)
    of_up = grad * activated
    of_gate = (grad * up).float() * sigmoid * (1 + gate.float() * (1 - sigmoid))
    output = activated * up
    grad.copy_(output)
    up.copy_(of_gate.to(up.dtype))
    gate.copy_(of_up)
    return grad, gate, up


class CrossEntropyLoss:
    """For the Triton kernel of the cross-entropy loss of each token, in unsloth's code for Gemma 3 and others."""

    @staticmethod
    def apply(logits, labels, softcapping, scaling):
        return torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="none")


def shared_prefix_attention(*args, **options):
    """For the compiled kernel of rows with shared prompts: its own mask and torch's own operator, not compiled."""
    FLEX_CALLS.append(args[0].shape)
    return prefix_grouper_kernel.flex_shared_prefix_attention(*args, compiled=False, **options)


FLEX_CALLS: list[torch.Size] = []
attention_dispatch._flex_shared_prefix_attention = shared_prefix_attention
flex_attention._validate_device = lambda *_: None  # torch has a backward of it on a processor, and refuses it

unsloths_block_compile, torchs_compile = llama._legacy_block_compile, torch.compile


def traced(function, options, **keywords):
    """For torch.compile with Inductor, which takes a C++ compiler and a minute: traced alike, then run by torch."""
    return torchs_compile(function, backend="aot_eager", **keywords)


def block_compile(model):
    """For unsloth's compilation of each layer, which asks for a card first."""
    with mock.patch("torch.cuda.is_available", lambda: True), mock.patch("torch.compile", traced):
        return unsloths_block_compile(model)


llama._legacy_block_compile = block_compile
llama.LlamaRotaryEmbedding = qwen3.LlamaRotaryEmbedding = RotaryEmbedding
llama.fast_rope_embedding = qk_norm_rope.fast_rope_embedding = rotate
llama.fast_rms_layernorm = qk_norm_rope.fast_rms_layernorm = rms_norm
cross_entropy_loss.Fast_CrossEntropyLoss = CrossEntropyLoss
fast_lora.swiglu_fg_kernel = gated
fast_lora.swiglu_DWf_DW_dfg_kernel = gated_backward

# Questions to a card, answered as an Ampere card would, and calls that only a card can take.
llama.get_device_stats = vision.get_device_stats = lambda *_, **__: ("a processor", "no CUDA.", 0)
llama.is_bfloat16_supported = vision.is_bfloat16_supported = loader.is_bfloat16_supported = lambda: True
llama._base_weight_dtype = lambda *_: torch.bfloat16  # in fp32, where results can be compared, it would not fuse LoRA
llama.DEVICE_COUNT, llama.DEVICE_TYPE_TORCH = 1, "cpu"  # buffers for decoding lie on the first card
_utils.patch_unsloth_smart_gradient_checkpointing = lambda **_: None  # its checkpoints leave the card; torch's stay
torch.cuda.get_device_capability = lambda *_: (8, 6)
torch.cuda.device = lambda *_: contextlib.nullcontext()
torch.cuda.current_device = lambda: 0
torch.cuda.synchronize = torch.cuda.empty_cache = lambda *_: None

# unsloth.models.rl.PatchFastRL, from where UNSLOTH_ALLOW_CPU=1 makes it return.
rl.patch_trl_disable_gradient_checkpointing()
rl.patch_trl_fused_lm_head_devices()
rl.patch_trl_fused_lm_head_kernel()
rl._patch_trl_rl_trainers("dpo_trainer")
rl._patch_trl_rl_trainers("sft_trainer")
