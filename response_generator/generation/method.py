"""Which of two methods generates the replies: continuous batching, or `generate` where that does not apply."""

import copy
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from peft import PeftModel
from tqdm.auto import tqdm
from transformers import GenerationConfig

from response_generator.generation.continuous_batching import write_replies
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    Replies,
    SamplingParams,
    make_batches,
)
from response_generator.generation.kv_cache import has_full_attention
from response_generator.generation.oom import reduce_rows_on_oom, split_on_oom
from response_generator.generation.with_generate import generate_replies, sample_tokens
from response_generator.modeling.logprobs import completion_logps

CONTINUOUS_BATCHING, GENERATE = "continuous batching", "generate"
Method = Literal["continuous batching", "generate"]

KNOWN_SETTINGS = {
    "max_new_tokens",
    "min_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "use_cache",
    "pad_token_id",
    "eos_token_id",
    "transformers_version",
}
PROBE_REQUESTS, PROBE_TOKENS = 4, 8
MAX_ROUNDING_GAP = 0.5  # nats, between two tokens of which rounding in 16 bits decides the more probable one


def choose_method(
    model: PeftModel,
    config: GenerationConfig,
    requested: str,
    requests: Sequence[GenerationRequest],
) -> Method:
    """Chooses the method, and prints why if it is `generate`.

    Args:
        requested: `generation_method` of the args.
        requests: some of them are tried in both ways on a GPU.
    """
    reason = "the args ask for it" if requested == GENERATE else find_obstacle(model, config, requests)
    if reason:
        tqdm.write(f"generating with `generate`, one forward pass over a prompt for each sample: {reason}", sys.stderr)
    return GENERATE if reason else CONTINUOUS_BATCHING


def generate(
    method: Method,
    model: PeftModel,
    requests: Sequence[GenerationRequest],
    params: SamplingParams,
    limit: BatchLimit,
    report: Callable[[list[Replies]], None],
) -> list[Replies]:
    """Generates replies to all requests, in their order; when memory runs out, with fewer at once.

    Args:
        report: called with the replies that were finished since the last call.

    Raises:
        RunError: when a single row does not fit into memory.
    """
    replies: dict[tuple, Replies] = {}

    def add(finished: list[Replies]) -> None:
        replies.update({each.request.key: each for each in finished})
        report(finished)

    def decode(limit: BatchLimit) -> None:
        left = [request for request in requests if request.key not in replies]
        for finished in write_replies(model, left, params, limit):
            add([finished])

    if method == CONTINUOUS_BATCHING:
        reduce_rows_on_oom(decode, limit)
    else:
        rows = limit.count_rows(max(request.length for request in requests) + params.config.max_new_tokens)
        for batch in make_batches(requests, rows, lambda request: request.length):
            add(split_on_oom(lambda part: generate_replies(model, part, params), batch))
    return [replies[request.key] for request in requests]


def find_obstacle(
    model: PeftModel,
    config: GenerationConfig,
    requests: Sequence[GenerationRequest],
) -> str | None:
    """Returns why continuous batching cannot be used, or None."""
    settings = find_unknown_settings(config)
    if settings:
        return f"only it knows {', '.join(f'generation.{name}' for name in settings)}"
    if not has_full_attention(model):
        return "this model has layers that do not attend to all earlier tokens"
    if model.device.type != "cpu" and not replies_agree(model, config, requests[:PROBE_REQUESTS]):
        return f"on this GPU the first {PROBE_TOKENS} tokens without sampling are others than those of `generate`"
    return None


def find_unknown_settings(config: GenerationConfig) -> list[str]:
    """Returns the settings that continuous batching does not know and that differ from transformers' defaults."""
    defaults = GenerationConfig().to_dict() | GenerationConfig._get_default_generation_params()
    return [
        name
        for name, value in config.to_diff_dict().items()
        if name not in KNOWN_SETTINGS and value != defaults.get(name)
    ]


def replies_agree(
    model: PeftModel,
    config: GenerationConfig,
    requests: Sequence[GenerationRequest],
) -> bool:
    """Compares the most probable replies of both ways, PROBE_TOKENS tokens to each request.

    Where they differ first, a forward pass over both has to find them about equally probable: then rounding decided.
    """
    probe = copy.deepcopy(config)
    probe.do_sample, probe.max_new_tokens, probe.min_new_tokens = False, PROBE_TOKENS, PROBE_TOKENS
    probe.temperature = probe.top_k = probe.top_p = None  # `generate` warns of them without sampling
    params = SamplingParams(probe, seed=0, samples=1)
    replies = write_replies(model, requests, params, BatchLimit(len(requests)))
    written = {each.request.key: each.samples[0] for each in replies}
    generated = sample_tokens(model, [request.prompt_ids for request in requests], probe)
    for request, theirs in zip(requests, generated, strict=True):
        ours = written[request.key]
        if ours != theirs:
            end = 1 + next(place for place in range(PROBE_TOKENS) if ours[place] != theirs[place])
            texts = [(request.prompt_ids, reply[:end]) for reply in (ours, theirs)]
            ours_logp, theirs_logp = completion_logps(model, texts, config.pad_token_id)
            if not abs(ours_logp - theirs_logp) <= MAX_ROUNDING_GAP:
                return False
    return True
