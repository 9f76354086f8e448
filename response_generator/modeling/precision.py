"""Chooses the dtype to compute in: bfloat16, or float32 on processors without bfloat16 instructions."""

import os

import torch

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # the first two on x86, the third on Arm
BF16_VARIABLE = "UNSLOTH_CPU_BF16"  # its words, as unsloth's CPU backend reads them:
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def has_native_bf16() -> bool:
    """Returns whether this machine has a GPU or a processor with bfloat16 instructions.

    On other processors, torch emulates bfloat16, and matrix products are up to 300 times slower than in float32.
    unsloth's CPU backend checks the same instructions, and lets the environment variable UNSLOTH_CPU_BF16 answer
    instead; it answers here too, because the two must agree.
    """
    if torch.cuda.is_available():
        return True
    answer = os.environ.get(BF16_VARIABLE, "").strip().lower()
    if answer in YES + NO:
        return answer in YES
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in BF16_INSTRUCTIONS)


def get_compute_dtype() -> torch.dtype:
    return torch.bfloat16 if has_native_bf16() else torch.float32
