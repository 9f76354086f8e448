"""Out of memory: the batch is halved, and the run goes on."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from tqdm.auto import tqdm

from response_generator.errors import RunError


def split_on_oom(work: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """Hands `items` to `work` at once, or in halves of halves where memory does not suffice; one result an item.

    The next batch is tried whole again: how one is split must not depend on what came before it, or a resumed run
    would draw other replies, and shorter prompts fit where longer ones did not.

    Raises:
        RunError: when a single item does not fit.
    """
    try:
        return work(items)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and not should_reduce_batch_size(error):
            raise
        if len(items) == 1:
            raise RunError(f"out of memory with a single row at once: {error}") from error
        reason = str(error).splitlines()[0]
    # Outside the except: while the error lives, its frames hold the tensors that did not fit.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (len(items) + 1) // 2
    tqdm.write(f"out of memory with {len(items)} rows at once; going on with {half} ({reason})", sys.stderr)
    return split_on_oom(work, items[:half]) + split_on_oom(work, items[half:])
