"""Imports the backend that loads the models. Call `import_backend` before anything imports transformers."""

import gc
import os
import sys
from types import ModuleType
from typing import Any

import psutil

from response_generator.runs import library_output

BUSY_CHECK_SECONDS = 0.2
MAX_IDLE_PERCENT = 25


def import_backend(name: str) -> None:
    """Imports unsloth when `name` is "unsloth". It patches transformers, trl and peft, so it has to come first."""
    library_output.silence_loggers()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "OMP_WAIT_POLICY" not in os.environ and is_machine_busy():
        # Threads of torch that wait for each other then compute nothing; otherwise they take half of a busy machine. On
        # an idle one that would cost training 9 % of its speed.
        os.environ["OMP_WAIT_POLICY"] = "passive"
    if name == "unsloth":
        with library_output.hide_prints():
            import_unsloth()
        # unsloth collects garbage several times while it loads a model; searching all that was imported took most of
        # that time.
        gc.freeze()
    if not library_output.is_verbose():
        from transformers.utils import logging

        logging.disable_progress_bar()  # of reading and writing weights; those of downloads stay visible


def is_machine_busy() -> bool:
    """Whether other processes take more than a quarter of the processors now."""
    return psutil.cpu_percent(BUSY_CHECK_SECONDS) > MAX_IDLE_PERCENT


def import_unsloth() -> ModuleType:
    import unsloth

    return unsloth


def has_unsloth_gpu_code() -> bool:
    """Returns whether this process runs unsloth's GPU code: its own models, kernels and trainer.

    unsloth decides once, when it is imported. Without a GPU it loads its CPU backend, which is plain transformers, PEFT
    and TRL. Use this instead of `torch.cuda.is_available` where the question is whose code runs, not on which device.
    """
    unsloth = sys.modules.get("unsloth")
    return unsloth is not None and unsloth.DEVICE_TYPE != "cpu"


def has_unsloth_forward(model: Any) -> bool:
    """Returns whether a model runs unsloth's own forward pass on a GPU, with its own form of the KV cache."""
    return has_unsloth_gpu_code() and getattr(model, "_unsloth_fast_path", False)
