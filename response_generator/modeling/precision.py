"""Which arithmetic this device does well: bfloat16, or float32 on processors without instructions for it."""

import torch

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # x86, x86, Arm


def has_native_bf16() -> bool:
    """False on many processors: torch then emulates products of bfloat16, up to 300 times slower than float32's.

    unsloth's CPU backend decides by the same instructions.
    """
    found = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or any(found.get(name) for name in BF16_INSTRUCTIONS)


def get_compute_dtype() -> torch.dtype:
    return torch.bfloat16 if has_native_bf16() else torch.float32
