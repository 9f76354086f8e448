"""Chooses the dtype to compute in: bfloat16, or float32 on processors without bfloat16 instructions."""

import torch

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # the first two on x86, the third on Arm


def has_native_bf16() -> bool:
    """Returns whether this machine has a GPU or a processor with bfloat16 instructions.

    On other processors, torch emulates bfloat16, and matrix products are up to 300 times slower than in float32.
    unsloth's CPU backend checks the same instructions.
    """
    capabilities = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or any(capabilities.get(name) for name in BF16_INSTRUCTIONS)


def get_compute_dtype() -> torch.dtype:
    return torch.bfloat16 if has_native_bf16() else torch.float32
