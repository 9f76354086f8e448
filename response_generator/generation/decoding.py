"""Samples replies to many requests in one batch that is refilled while it is decoded."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from response_generator.generation.candidates import draw_uniforms
from response_generator.generation.prefix import compute_prefix, split_by_tokens
from response_generator.generation.reply_batch import NewRows, ReplyBatch, Rows
from response_generator.generation.sampling import BatchLimit, GenerationRequest, Replies, SamplingParams

# New requests enter when this share of the rows is free. More often costs time, as each time copies the KV cache.
MIN_FREE_SHARE = 0.25

Numbered = tuple[int, GenerationRequest]  # with its place in the list of requests


@torch.inference_mode()
def write_replies(
    model: PreTrainedModel, requests: Sequence[GenerationRequest], params: SamplingParams, limit: BatchLimit
) -> Iterator[Replies]:
    """Samples replies to all requests, and yields those of a request when its last sample is finished.

    A prompt is computed once. In float32 a reply depends on nothing but its request, the seed and the settings. In
    bfloat16 it also depends on the other rows of its batch, because matrix products of other sizes round differently.

    Args:
        requests: the longest prompts first, so that running out of memory shows at the start.
    """
    batch = ReplyBatch(model, params.config)
    waiting = deque(enumerate(requests))
    gold_logps: dict[int, float] = {}
    while waiting or batch.live_count:
        entering = take_entering(waiting, batch, params, limit)
        if entering or batch.live_count <= (1 - MIN_FREE_SHARE) * batch.row_count:
            new_rows = []
            for group in split_by_tokens(entering, model.device, count_tokens):
                rows, logps = start_rows(model, group, params)
                new_rows.append(rows)
                gold_logps |= {position: logp for (position, _), logp in zip(group, logps, strict=True)}
            batch.replace_finished(new_rows)
        if batch.live_count:
            batch.advance()
        for position in list(gold_logps):
            numbers = range(position * params.samples, (position + 1) * params.samples)
            if all(number in batch.finished for number in numbers):
                samples = [batch.finished.pop(number) for number in numbers]
                yield Replies(requests[position], samples, gold_logps.pop(position))


def take_entering(
    waiting: deque[Numbered], batch: ReplyBatch, params: SamplingParams, limit: BatchLimit
) -> list[Numbered]:
    """Removes from `waiting` the requests whose samples fit into the batch now, if enough of its rows are free."""
    if not waiting:
        return []
    longest = max(batch.columns, waiting[0][1].length) + params.config.max_new_tokens
    rows = limit.count_rows(longest)
    free = rows - batch.live_count
    if batch.live_count and free < MIN_FREE_SHARE * rows:
        return []
    count = free // params.samples or (0 if batch.live_count else 1)
    return [waiting.popleft() for _ in range(min(count, len(waiting)))]


def count_tokens(numbered: Numbered) -> int:
    _, request = numbered
    return request.length + len(request.gold_ids)


def start_rows(
    model: PreTrainedModel, group: Sequence[Numbered], params: SamplingParams
) -> tuple[NewRows, list[float]]:
    """Computes the prompts of a group and starts all samples; also returns the gold replies' log-probabilities."""
    config = params.config
    prefix, logps = compute_prefix(
        model,
        [request.prompt_ids for _, request in group],
        config.pad_token_id,
        [request.gold_ids for _, request in group],
    )
    samples = range(params.samples)
    numbers = torch.tensor([[position * params.samples + sample for sample in samples] for position, _ in group])
    uniforms = [
        draw_uniforms(params.seed, request.dialogue.index, sample, config.max_new_tokens)
        for _, request in group
        for sample in samples
    ]
    uniforms = torch.stack(uniforms).reshape(len(group), params.samples, -1)
    return NewRows(Rows.start(prefix, numbers, uniforms, config), prefix), logps
