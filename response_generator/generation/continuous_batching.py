"""Samples replies to many requests in one batch that is refilled while it is decoded."""

import ctypes
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from response_generator.generation.generation_requests import BatchLimit, GenerationRequest, Replies, SamplingParams
from response_generator.generation.prefix import compute_prefix, split_by_tokens
from response_generator.generation.reply_batch import NewRows, ReplyBatch
from response_generator.generation.token_sampling import draw_uniforms

# New requests enter when this share of the rows is free. More often costs time, as each time copies the KV cache.
MIN_FREE_SHARE = 0.25


@dataclass(frozen=True)
class Entry:
    """A request, its place in the list of requests, and those of its samples that are started together."""

    request: GenerationRequest
    position: int
    samples: range

    @property
    def tokens(self) -> int:
        """Tokens of the forward pass over prompt and gold reply."""
        return self.request.length + len(self.request.gold_ids)


@torch.inference_mode()
def write_replies(
    model: PreTrainedModel, requests: Sequence[GenerationRequest], params: SamplingParams, limit: BatchLimit
) -> Iterator[Replies]:
    """Samples replies to all requests, and yields those of a request when its last sample is finished.

    A prompt is computed once, or, if a request has more samples than rows fit, once for as many as fit. In float32 a
    reply depends on nothing but its request, the seed and the settings. In bfloat16 it also depends on the other rows
    of its batch, because matrix products of other sizes round differently.

    Args:
        requests: the longest prompts first, so that running out of memory shows at the start.
    """
    batch = ReplyBatch(model, params.config)
    waiting = deque(list_entries(requests, params, limit))
    gold_logps: dict[int, float] = {}
    while waiting or batch.live_count:
        entering = take_entering(waiting, batch, params, limit)
        if entering or batch.live_count <= (1 - MIN_FREE_SHARE) * batch.row_count:
            new_rows = []
            for group in split_by_tokens(entering, model.device, lambda entry: entry.tokens):
                rows, logps = start_rows(model, group, params)
                new_rows.append(rows)
                gold_logps |= {entry.position: logp for entry, logp in zip(group, logps, strict=True)}
            batch.replace_finished(new_rows)
            if model.device.type == "cpu":
                return_freed_memory()  # 1 % of the time; without it 128 prompts take 1 GB more
        if batch.live_count:
            batch.advance()
        for position in list(gold_logps):
            numbers = range(position * params.samples, (position + 1) * params.samples)
            if all(number in batch.finished for number in numbers):
                samples = [batch.finished.pop(number) for number in numbers]
                yield Replies(requests[position], samples, gold_logps.pop(position))


def list_entries(requests: Sequence[GenerationRequest], params: SamplingParams, limit: BatchLimit) -> Iterator[Entry]:
    for position, request in enumerate(requests):
        size = limit.count_rows(request.length + params.config.max_new_tokens)
        for start in range(0, params.samples, size):
            yield Entry(request, position, range(start, min(start + size, params.samples)))


def take_entering(waiting: deque[Entry], batch: ReplyBatch, params: SamplingParams, limit: BatchLimit) -> list[Entry]:
    """Removes from `waiting` what fits into the batch now, if enough of its rows are free."""
    if not waiting:
        return []
    rows = limit.count_rows(max(batch.columns, waiting[0].request.length) + params.config.max_new_tokens)
    free = rows - batch.live_count
    if batch.live_count and free < MIN_FREE_SHARE * rows:
        return []
    entering = []
    while waiting and (len(waiting[0].samples) <= free or not (entering or batch.live_count)):
        entering.append(waiting.popleft())
        free -= len(entering[-1].samples)
    return entering


def start_rows(model: PreTrainedModel, group: Sequence[Entry], params: SamplingParams) -> tuple[NewRows, list[float]]:
    """Computes the prompts of a group and starts their samples; also returns the gold replies' log-probabilities."""
    config = params.config
    prompts = [entry.request.prompt_ids for entry in group]
    gold = [entry.request.gold_ids for entry in group]
    prefix, logps = compute_prefix(model, prompts, config.pad_token_id, gold)
    replies = [(place, entry, sample) for place, entry in enumerate(group) for sample in entry.samples]
    index = torch.tensor([place for place, _, _ in replies])
    numbers = torch.tensor([entry.position * params.samples + sample for _, entry, sample in replies])
    uniforms = [
        draw_uniforms(params.seed, entry.request.dialogue.index, params.first_sample + sample, config.max_new_tokens)
        for _, entry, sample in replies
    ]
    return NewRows.start(prefix, index, numbers, torch.stack(uniforms), config), logps


def return_freed_memory() -> None:
    """Gives freed memory back to the system, where the C library can (glibc).

    glibc keeps it in gaps between blocks that are still used, and tensors of other sizes do not fit into these.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
