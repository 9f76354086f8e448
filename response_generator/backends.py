"""Chooses the loader by importing it first. Call `import_backend` before anything imports transformers."""

import logging
import os


def import_backend(name: str) -> None:
    """unsloth patches transformers, trl and peft at import, so it has to come before them."""
    # Lines that every run would print and no user can act on: torch about torchao's enums, bitsandbytes about a
    # kernel package it does not need.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if name == "unsloth":
        import unsloth  # noqa: F401
