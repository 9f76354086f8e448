"""Chooses the loader by importing it first. Call `import_backend` before anything imports transformers."""

import logging
import os
import sys


def import_backend(name: str) -> None:
    """unsloth patches transformers, trl and peft at import, so it has to come before them."""
    # Lines that every run would print and no user can act on: torch about torchao's enums, bitsandbytes about a
    # kernel package it does not need.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if name == "unsloth":
        import unsloth  # noqa: F401


def has_unsloth_gpu_code() -> bool:
    """Whether this process runs unsloth's GPU code: its own models, kernels and trainer.

    unsloth chooses once, at import: where it finds no card it loads its CPU backend, which is plain transformers, PEFT
    and TRL. Ask this, not torch, where unsloth's code matters and not the device.
    """
    unsloth = sys.modules.get("unsloth")
    return unsloth is not None and unsloth.DEVICE_TYPE != "cpu"
