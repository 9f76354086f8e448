"""Measures how fast a run would train in each layout of the batches, and leaves no trace in it."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate.utils import send_to_device
from accelerate.utils.memory import clear_device_cache

from response_generator.generation.oom import is_oom
from response_generator.training.reference import REF_LOGPS_COLUMNS
from response_generator.training.trl_trainers import ResumableDPOTrainer

NUM_TIMED_BATCHES = 3
NUM_ROUNDS = 2  # the first one also compiles what a GPU compiles
OUT_OF_MEMORY = 0.0  # instead of a speed


def measure_speeds(
    trainer: ResumableDPOTrainer, collators: dict[str, Callable], with_reference: bool
) -> dict[str, float]:
    """Pairs a second of the forward and backward passes in each layout, or OUT_OF_MEMORY.

    No optimizer step is taken. Weights, gradients, random state and metrics are as before. One process can do it alone.

    Args:
        collators: of each layout.
        with_reference: whether a step computes the reference's log-probabilities too.
    """
    seconds = {layout: math.inf for layout in collators}
    with restored_state(trainer):
        batches = choose_batches(trainer)
        times = {layout: [[] for _ in batches] for layout in collators}
        for _ in range(NUM_ROUNDS):
            for number, rows in enumerate(batches):
                for layout in list(times):
                    try:
                        times[layout][number].append(time_passes(trainer, collators[layout], rows, with_reference))
                    except RuntimeError as error:
                        if not is_oom(error):
                            raise
                        del times[layout]
                    trainer.model.zero_grad()
                    if layout not in times:  # not above, where the error still holds the tensors
                        clear_device_cache(garbage_collection=True)
    seconds |= {layout: sum(min(each) for each in of_layout) for layout, of_layout in times.items()}
    pairs = sum(len(rows) for rows in batches)
    return {layout: pairs / each if math.isfinite(each) else OUT_OF_MEMORY for layout, each in seconds.items()}


@contextlib.contextmanager
def restored_state(trainer: ResumableDPOTrainer) -> Iterator[None]:
    """Inside, the model is as in a training step; afterwards it is as before, and so are the random generators."""
    args, model = trainer.args, trainer.accelerator.unwrap_model(trainer.model)
    was_training, enables = model.training, args.gradient_checkpointing and not model.is_gradient_checkpointing
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        if enables:  # as transformers does when training begins
            options = dict(args.gradient_checkpointing_kwargs or {})
            own = {name: options.pop(name) for name in ("every_n_layers", "offload") if name in options}
            model.gradient_checkpointing_enable(options or None, **own)
        model.train()
        try:
            yield
        finally:
            model.zero_grad()
            model.train(was_training)
            if enables:
                model.gradient_checkpointing_disable()
    if devices:
        torch.cuda.reset_peak_memory_stats()  # the peak of the run is that of the layout that trains


def choose_batches(trainer: ResumableDPOTrainer) -> list[list[dict[str, Any]]]:
    """Full batches of the run, evenly spread over an epoch: where it is ordered by length, of several lengths."""
    size = trainer.args.per_device_train_batch_size
    order = list(trainer._get_train_sampler())
    batches = [order[start : start + size] for start in range(0, len(order) - size + 1, size)] or [order]
    count = min(NUM_TIMED_BATCHES, len(batches))
    chosen = [batches[(2 * number + 1) * len(batches) // (2 * count)] for number in range(count)]
    return [[trainer.train_dataset[row] for row in batch] for batch in chosen]


def time_passes(
    trainer: ResumableDPOTrainer, collator: Callable, rows: list[dict[str, Any]], with_reference: bool
) -> float:
    """Seconds of what a step computes on a batch, but for the loss and the optimizer."""
    started = read_clock()
    batch = send_to_device(collator(rows), trainer.args.device)
    if with_reference:
        trainer.compute_ref_log_probs(trainer.model, batch)
    compute_logps(trainer, batch).sum().backward()
    return read_clock() - started


def read_clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def compute_logps(trainer: ResumableDPOTrainer, batch: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities (nats) of the policy, first of all chosen, then of all rejected replies, (2 x pairs,)."""
    inputs = {name: value for name, value in batch.items() if name not in ("completion_mask", *REF_LOGPS_COLUMNS)}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    with trainer.accelerator.autocast():
        return trainer.model(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs.float().sum(1)
