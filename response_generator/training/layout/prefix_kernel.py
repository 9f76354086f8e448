"""unsloth's attention kernel for rows whose replies share a prompt. It is part of its GPU code, made for GRPO."""

import inspect
import os
from typing import Any

import torch
from transformers import PreTrainedModel

# The kernel's usual blocks in 16 bits, 128 queries by 64 keys of 128 numbers, need this much shared memory. A 3090 or
# 4090 has 101,376 bytes for a block, and runs 64 by 64.
USUAL_BLOCKS_BYTES = 104_448
MIN_COMPUTE_CAPABILITY = (8, 0)


def find_kernel_obstacle(model: PreTrainedModel) -> str | None:
    """Why unsloth's kernel cannot run in a model with unsloth's forward pass; None if it may."""
    from unsloth.models.llama import LlamaModel_fast_forward

    decoder = model.get_decoder()
    # Decorators of torch and of transformers lie around both.
    if inspect.unwrap(type(decoder).forward) is not inspect.unwrap(LlamaModel_fast_forward):
        return f"unsloth's code of {type(decoder).__name__} does not take rows of this kind"
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        return "unsloth's kernel cannot cap the attention scores, as this model does"
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < MIN_COMPUTE_CAPABILITY:
        major, minor = MIN_COMPUTE_CAPABILITY
        return f"unsloth's kernel needs a GPU of compute capability {major}.{minor} or newer"
    return None


def build_kernel_arguments(lengths: list[tuple[int, list[int]]]) -> dict[str, Any]:
    """What the model takes in place of a mask.

    Args:
        lengths: for each pair of a row the tokens of its prompt and of each reply.
    """
    if torch.cuda.is_available():
        choose_blocks(torch.cuda.get_device_properties(torch.cuda.current_device()).shared_memory_per_block_optin)
    from unsloth.utils.prefix_grouper_kernel import build_seg_info_multigroup

    # The kernel moves it to the device once for all layers.
    segments, _ = build_seg_info_multigroup(lengths, torch.device("cpu"))
    return {"attention_mask": None, "prefix_seg_info": segments}


def choose_blocks(shared_memory_bytes: int) -> None:
    """Asks for smaller blocks on GPUs with little shared memory; the kernel reads this when it is first imported."""
    if shared_memory_bytes < USUAL_BLOCKS_BYTES:
        os.environ.setdefault("PG_FLEX_BF16_BLOCK_M", "64")
