"""When memory runs out, a batch is split in halves and the run continues."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from tqdm.auto import tqdm

from response_generator.errors import RunError


def split_on_oom(work: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """Calls `work` with all `items`, or with halves of halves when memory is not enough; returns one result per item.

    The next batch is tried as a whole again. If its splitting depended on earlier batches, a resumed run would generate
    other replies; also, shorter prompts may fit where longer ones did not.

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
    # Not inside the except block: there the error still refers to the tensors that did not fit.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (len(items) + 1) // 2
    tqdm.write(f"out of memory with {len(items)} rows at once; continuing with {half} ({reason})", sys.stderr)
    return split_on_oom(work, items[:half]) + split_on_oom(work, items[half:])
