"""When memory runs out, the same work is done in smaller parts and the run continues."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from tqdm.auto import tqdm

from response_generator.errors import RunError
from response_generator.generation.generation_requests import BatchLimit

Result = TypeVar("Result")


def split_on_oom(work: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """Calls `work` with all `items`, or with halves of halves when memory is not enough; returns one result per item.

    The next batch is tried as a whole again. If its splitting depended on earlier batches, a resumed run would generate
    other replies; also, shorter prompts may fit where longer ones did not.

    Raises:
        RunError: when a single item does not fit.
    """
    try:
        return work(items)
    except RuntimeError as error:
        reason = find_oom_reason(error, len(items))
    # Not inside the except block: there the error still refers to the tensors that did not fit.
    clear_device_cache(garbage_collection=True)
    half = (len(items) + 1) // 2
    print_smaller_batch(len(items), half, reason)
    return split_on_oom(work, items[:half]) + split_on_oom(work, items[half:])


def reduce_rows_on_oom(work: Callable[[BatchLimit], Result], limit: BatchLimit) -> Result:
    """Calls `work` with `limit`, then with half of it each time memory is not enough.

    Raises:
        RunError: when a single row does not fit.
    """
    try:
        return work(limit)
    except RuntimeError as error:
        reason = find_oom_reason(error, limit.rows)
    clear_device_cache(garbage_collection=True)
    smaller = limit.halve()
    print_smaller_batch(limit.rows, smaller.rows, reason)
    return reduce_rows_on_oom(work, smaller)


def find_oom_reason(error: RuntimeError, rows: int) -> str:
    """Returns the first line of an out-of-memory error, and raises every other error again.

    Raises:
        RunError: when memory was not enough for one row.
    """
    if not is_oom(error):
        raise error
    if rows == 1:
        raise RunError(f"out of memory with a single row at once: {error}") from error
    return str(error).splitlines()[0]


def is_oom(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def print_smaller_batch(rows: int, smaller: int, reason: str) -> None:
    tqdm.write(f"out of memory with {rows} rows at once; continuing with {smaller} ({reason})", sys.stderr)
