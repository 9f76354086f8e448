"""Measures how many replies to write at once when `batch_size` is "auto"."""

import copy
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import psutil
import torch
from accelerate.utils import broadcast_object_list
from accelerate.utils.memory import clear_device_cache
from peft import PeftModel
from tqdm.auto import tqdm

from response_generator.config.schema import AUTO_BATCH_SIZE
from response_generator.generation.generation_requests import BatchLimit, GenerationRequest, SamplingParams
from response_generator.generation.oom import is_oom
from response_generator.generation.prefix import Prefix, compute_prefix
from response_generator.generation.reply_batch import NewRows, ReplyBatch
from response_generator.runs import distributed
from response_generator.runs.run_folder import RunFolder

MEASURED = "max_batch_tokens"  # in environment.json

MIN_ROWS, MAX_ROWS = 4, 512
MIN_GAIN = 1.1  # in replies per second, for twice as many rows
TIMED_STEPS = 3
MAX_CPU_MEMORY_SHARE = 0.25  # of the free memory, for the KV cache; a GPU reports when its memory is full


def read_batch_limit(run: RunFolder, batch_size: int | str) -> BatchLimit | None:
    """Returns the limit that `batch_size` gives; for "auto" the one that an earlier start has measured, or None."""
    if batch_size != AUTO_BATCH_SIZE:
        return BatchLimit(batch_size)
    tokens = run.read_environment().get(MEASURED)
    return BatchLimit(MAX_ROWS, tokens) if tokens else None


def measure_batch_limit(
    run: RunFolder, model: PeftModel, requests: Sequence[GenerationRequest], params: SamplingParams
) -> BatchLimit:
    """Measures the limit on the main process, and notes it for a resumed run, whose batches have to be the same."""
    tokens = measure_max_tokens(model, requests, params) if distributed.is_main_process() else None
    (tokens,) = broadcast_object_list([tokens])
    run.note_environment({MEASURED: tokens})
    tqdm.write(f'batch_size "auto": up to {tokens} tokens of prompts and replies at once', sys.stderr)
    return BatchLimit(MAX_ROWS, tokens)


def measure_max_tokens(model: PeftModel, requests: Sequence[GenerationRequest], params: SamplingParams) -> int:
    """Doubles the number of rows, each as long as the longest request can get, until that is hardly faster any more or
    does not fit into memory.

    Returns:
        The tokens of the best batch. Of shorter requests, more rows have as many tokens.
    """
    longest = max(requests, key=lambda request: request.length)
    columns = longest.length + params.config.max_new_tokens
    prompt = (longest.prompt_ids * columns)[: max(1, columns - TIMED_STEPS - 2)]
    best_rows, best_speed = MIN_ROWS, 0.0
    for rows, seconds in time_steps(model, prompt, params, len(requests) * params.samples):
        if rows / seconds < best_speed * MIN_GAIN:
            break
        best_rows, best_speed = rows, rows / seconds
    return best_rows * columns


@torch.inference_mode()
def time_steps(
    model: PeftModel, prompt: list[int], params: SamplingParams, replies: int
) -> Iterator[tuple[int, float]]:
    """Yields numbers of rows that fit into memory, and the seconds that a decoding step of so many takes.

    Args:
        replies: all replies of the run; more rows are of no use.
    """
    prefix, _ = compute_prefix(model, [prompt], params.config.pad_token_id)
    row_bytes = sum(keys.nbytes + values.nbytes for keys, values in prefix.layers)
    rows = MIN_ROWS
    while rows <= min(MAX_ROWS, 2 * replies):
        if model.device.type == "cpu" and rows * row_bytes > MAX_CPU_MEMORY_SHARE * psutil.virtual_memory().available:
            return
        try:
            seconds = time_step(model, prefix, params, rows)
        except RuntimeError as error:
            if not is_oom(error):
                raise
            return
        finally:
            clear_device_cache(garbage_collection=True)
        yield rows, seconds
        rows *= 2


def time_step(model: PeftModel, prefix: Prefix, params: SamplingParams, rows: int) -> float:
    """The seconds of a decoding step with `rows` replies to one prompt."""
    config = copy.deepcopy(params.config)
    config.max_new_tokens = config.min_new_tokens = TIMED_STEPS + 3  # no reply finishes
    uniforms = torch.full((rows, config.max_new_tokens), 0.5)
    prefix = replace(prefix, layers=list(prefix.layers))  # the batch empties the list
    batch = ReplyBatch(model, config)
    index = torch.zeros(rows, dtype=torch.long)
    batch.replace_finished([NewRows.start(prefix, index, torch.arange(rows), uniforms, config)])
    batch.advance()
    start = time.perf_counter()
    for _ in range(TIMED_STEPS):
        batch.advance()
    return (time.perf_counter() - start) / TIMED_STEPS
