"""Which arithmetic this device does well: bfloat16, or float32 on processors without kernels for bfloat16."""

import torch


def fast_bf16() -> bool:
    """False on processors without AVX-512 (oneDNN multiplies bfloat16 there one number at a time, 300 times slower)."""
    return torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability() in ("AVX512", "SVE128", "SVE256")


def compute_dtype() -> torch.dtype:
    return torch.bfloat16 if fast_bf16() else torch.float32
