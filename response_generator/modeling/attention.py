"""The attention implementation: chooses the one to request, and finds the one that a loaded model runs."""

import importlib.util

import torch
from transformers import PreTrainedModel

from response_generator.modeling.backend import has_unsloth_forward

FLASH, SDPA = "flash_attention_2", "sdpa"


def resolve_attn_implementation(requested: str | None) -> str | None:
    """Replaces flash_attention_2 with sdpa where it cannot run; returns every other value unchanged."""
    return SDPA if requested == FLASH and find_missing_for_flash() else requested


def find_missing_for_flash() -> str | None:
    """Returns what flash_attention_2 needs and this machine lacks; None when it can run."""
    if not torch.cuda.is_available():
        return "a CUDA device"
    return None if importlib.util.find_spec("flash_attn") else "the package flash-attn"


def get_attn_implementation(model: PreTrainedModel) -> str:
    """Returns the attention that a loaded model runs: "flash_attention_2", "xformers", "sdpa" or "eager".

    unsloth's fast models ignore the setting of transformers. They run the fastest implementation that is installed,
    but use sdpa for batches with padding and for every generated token after the first.
    """
    if not has_unsloth_forward(model):
        return model.config._attn_implementation
    from unsloth.utils import attention_dispatch

    names = {attention_dispatch.FLASH_DENSE: FLASH, attention_dispatch.XFORMERS: "xformers"}
    return names.get(attention_dispatch.select_attention_backend(), SDPA)


def print_attn_change(requested: str, used: str) -> None:
    """Prints a message when a model does not run the attention that the args request."""
    if used == requested:
        return
    missing = find_missing_for_flash() if requested == FLASH else None
    reason = f"{requested} needs {missing}" if missing else f"unsloth does not take {requested} for this model"
    print(f"attn_implementation: {reason}; using {used}")
