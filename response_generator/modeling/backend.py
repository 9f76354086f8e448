"""Chooses the loader by importing it first. Call `import_backend` before anything imports transformers."""

import os
import sys

from response_generator.runs import library_output


def import_backend(name: str) -> None:
    """Imports unsloth where `name` asks for it: it patches transformers, trl and peft, so it has to come first."""
    library_output.silence_loggers()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if name == "unsloth":
        with library_output.hide_prints():
            import unsloth  # noqa: F401
    library_output.hide_progress_bars()


def has_unsloth_gpu_code() -> bool:
    """Whether this process runs unsloth's GPU code: its own models, kernels and trainer.

    unsloth chooses once, at import: where it finds no card it loads its CPU backend, which is plain transformers, PEFT
    and TRL. Ask this, not torch, where unsloth's code matters and not the device.
    """
    unsloth = sys.modules.get("unsloth")
    return unsloth is not None and unsloth.DEVICE_TYPE != "cpu"
