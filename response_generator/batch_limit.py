"""How many rows fit into memory at once: found out on the way."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from tqdm.auto import tqdm

from response_generator.errors import TrainingError


class BatchLimit:
    """Halves the batch when memory runs out, and keeps to it for the rest of the run."""

    def __init__(self, rows: int):
        self.rows = rows

    def each(self, work: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
        """Hands `items` to `work` in batches that fit; returns all that it gave back, in order.

        Raises:
            TrainingError: when a single item does not fit.
        """
        results: list[Any] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.rows]
            try:
                results += work(batch)
                continue
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not isinstance(error, torch.OutOfMemoryError) and not should_reduce_batch_size(error):
                    raise
                if len(batch) == 1:
                    raise TrainingError(f"out of memory with a single row at once: {error}") from error
                reason = str(error).splitlines()[0]
            # Outside the except: while the error lives, its frames hold the tensors that did not fit.
            self.rows = len(batch) // 2
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            tqdm.write(
                f"out of memory with {len(batch)} rows at once; going on with {self.rows} ({reason})", sys.stderr
            )
        return results
