"""Which attention a model is asked for, and which one it runs."""

import importlib.util

import torch
from transformers import PreTrainedModel

from response_generator.modeling.backend import has_unsloth_gpu_code

FLASH, SDPA = "flash_attention_2", "sdpa"


def resolve_attn_implementation(wanted: str | None) -> str | None:
    """What transformers can be asked for: flash_attention_2 where it can run, else sdpa."""
    return SDPA if wanted == FLASH and find_missing_for_flash() else wanted


def find_missing_for_flash() -> str | None:
    """What flash_attention_2 would need and is not here; None where it can run."""
    if not torch.cuda.is_available():
        return "a CUDA device"
    return None if importlib.util.find_spec("flash_attn") else "the package flash-attn"


def get_attn_implementation(model: PreTrainedModel) -> str:
    """The attention that a loaded model runs: "flash_attention_2", "xformers", "sdpa" or "eager".

    unsloth's fast models do not read transformers' setting. They take the best of what is installed; where a batch
    needs a mask for its padding, and for each token of a reply but the first, they take sdpa all the same.
    """
    if not (has_unsloth_gpu_code() and getattr(model, "_unsloth_fast_path", False)):
        return model.config._attn_implementation
    from unsloth.utils import attention_dispatch

    names = {attention_dispatch.FLASH_DENSE: FLASH, attention_dispatch.XFORMERS: "xformers"}
    return names.get(attention_dispatch.select_attention_backend(), SDPA)


def print_attn_change(wanted: str, used: str) -> None:
    """Prints a line where a model does not run the attention that the args name."""
    if used == wanted:
        return
    lacking = find_missing_for_flash() if wanted == FLASH else None
    why = f"{wanted} needs {lacking}" if lacking else f"unsloth does not take {wanted} for this model"
    print(f"attn_implementation: {why}; using {used}")
