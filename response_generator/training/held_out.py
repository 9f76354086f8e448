"""Means over held-out rows that do not depend on the batches: transformers and TRL average batches, so that a row of a
smaller last batch weighs more, and rows that fill up the last batches of several processes count twice."""

from collections.abc import Callable, Iterator
from typing import Any

RowNumbers = list[int]  # of one batch
Step = list[RowNumbers]  # the batch of each process; only one where all processes compute the same


class HeldOutBatches:
    """The batches of one process; a batch sampler.

    The rows that are left over when all processes have had as many full batches are computed by every process. So a
    mean over the processes is one over the rows, and each process takes as many steps as the others.
    """

    def __init__(self, order: list[int], size: int, process: int, processes: int):
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        shared = len(order) // (size * processes) * processes
        self.steps: list[Step] = [batches[start : start + processes] for start in range(0, shared, processes)]
        self.steps += [[batch] for batch in batches[shared:]]
        self.process = process

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[RowNumbers]:
        return iter(step[min(self.process, len(step) - 1)] for step in self.steps)


def compute_means(
    metrics: dict[str, list[float]],
    losses: list[list[float]],
    steps: list[Step],
    count_terms: Callable[[str, dict[str, Any]], int],
    rows: list[dict[str, Any]],
) -> dict[str, list[float]]:
    """The metrics with one mean each, and `loss`, as TRL's trainers log them.

    Args:
        metrics: of TRL; a value for each step, over all processes.
        losses: of each process, in each step.
        count_terms: the number of terms (pairs or tokens) of a row in the mean of that name.
    """

    def count(name: str, batch: RowNumbers) -> int:
        return sum(count_terms(name, rows[row]) for row in batch)

    means = {}
    for name, values in metrics.items():
        if len(values) == len(steps):
            weights = [sum(count(name, batch) for batch in step) for step in steps]
            values = [compute_weighted_mean(values, weights)]
        means[name] = values  # num_tokens is one number, of training
    weights = [count("loss", batch) for step in steps for batch in step]
    each = [loss for step, found in zip(steps, losses, strict=True) for loss in found[: len(step)]]
    return means | {"loss": [compute_weighted_mean(each, weights)]}


def compute_weighted_mean(values: list[float], weights: list[int]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
