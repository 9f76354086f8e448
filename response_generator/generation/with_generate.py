"""Sampling with transformers' own `generate`, one left-padded batch for each sample."""

from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from response_generator.generation.generation_requests import GenerationRequest, Replies, SamplingParams, Tokens
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.modeling.logprobs import completion_logps
from response_generator.modeling.padding import pad_rows


def generate_replies(model: PeftModel, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[Replies]:
    """Generates all samples of every request, as one batch.

    Each draw has a seed of its own, made of the run's seed, the sample and the first request. So a reply depends on the
    other requests of its batch, but neither on what was drawn before it nor on the process that draws it.
    """
    set_generation_config(model, params.config)
    texts = [(request.prompt_ids, request.gold_ids) for request in requests]
    has_gold = any(request.gold_ids for request in requests)
    logps = completion_logps(model, texts, params.config.pad_token_id) if has_gold else [0.0] * len(requests)
    prompts = [request.prompt_ids for request in requests]
    drawn = []
    for sample in range(params.first_sample, params.first_sample + params.samples):
        torch.manual_seed(draw_seed(params.seed, sample, requests[0].dialogue.index))
        drawn.append(sample_tokens(model, prompts, params.config))
    return [
        Replies(request, list(samples), logp)
        for request, samples, logp in zip(requests, zip(*drawn, strict=True), logps, strict=True)
    ]


def set_generation_config(model: PeftModel | PreTrainedModel, config: GenerationConfig) -> None:
    """Fields left empty would be filled from the model's own generation_config.json."""
    model.generation_config = config
    if isinstance(model, PeftModel):
        model.get_base_model().generation_config = config


def draw_seed(seed: int, sample: int, row: int) -> int:
    """The seed of one draw. It is a hash, so that draws of neighboring run seeds do not coincide."""
    return int(np.random.SeedSequence([seed, sample, row]).generate_state(1)[0])


def sample_tokens(
    model: PeftModel | PreTrainedModel,
    prompts: Sequence[Tokens],
    config: GenerationConfig,
    streamer: BaseStreamer | None = None,
) -> list[Tokens]:
    """Samples one completion per prompt. Returns token ids up to and including EOS, without padding.

    Args:
        prompts: token ids; shorter ones are padded on the left.
        streamer: gets the tokens of a single prompt, and of its completion as they are sampled.
    """
    ids, mask = pad_rows(prompts, config.pad_token_id, "left", model.device)
    # unsloth's fast generation reads the pad token only from this keyword; elsewhere the keyword is deprecated.
    pad = {"pad_token_id": config.pad_token_id} if has_unsloth_gpu_code() else {}
    with torch.inference_mode():
        whole = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, streamer=streamer, **pad)
    completions = whole[:, ids.shape[1] :].tolist()
    return [truncate_at_eos(tokens, config.eos_token_id) for tokens in completions]


def truncate_at_eos(tokens: Tokens, eos: int) -> Tokens:
    return tokens[: tokens.index(eos) + 1] if eos in tokens else tokens
