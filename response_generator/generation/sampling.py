"""Seeded multinomial sampling in left-padded batches."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from peft import PeftModel
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue
from response_generator.data.tokenization import split_ids
from response_generator.errors import InputError, RunError, refuse_rows
from response_generator.generation.oom import split_on_oom
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.modeling.logprobs import log_probabilities

Item = TypeVar("Item")


@dataclass(frozen=True)
class GenerationRequest:
    """A dialogue as a model is asked it: its prompt as text and tokens, and the reference reply's tokens with EOS."""

    dialogue: Dialogue
    prompt: str
    prompt_ids: list[int]
    reference_ids: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt_ids)

    @classmethod
    def of(cls, dialogue: Dialogue, renderer: ChatFormatter) -> "GenerationRequest":
        prompt = renderer.prompt(dialogue.history, dialogue.target_emotion)
        reference = {"emotion": dialogue.target_emotion, "dialog": dialogue.reference}
        completion = renderer.completion(dialogue.history, dialogue.target_emotion, reference)
        # Together: where tokens merge across the boundary the prompt's last one belongs to the reply.
        prompt_ids, (reference_ids,) = split_ids(prompt, (completion,), renderer)
        return cls(dialogue, prompt, prompt_ids, reference_ids)


@dataclass(frozen=True)
class Completion:
    """What the model said to a request.

    `new_tokens` counts what it wrote, its EOS included; `stopped_by_limit`: it wrote no EOS within max_new_tokens.
    `reference_logp` is the log-probability (nats) of the reference reply, its EOS included, under the same model.
    """

    request: GenerationRequest
    sample: int
    response: str
    new_tokens: int
    stopped_by_limit: bool
    reference_logp: float


@dataclass(frozen=True)
class SamplingParams:
    """How replies are drawn: `samples` to every request."""

    config: GenerationConfig
    seed: int
    samples: int


def generation_config(settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Builds the configuration of sampling; pad and eos are the tokenizer's.

    Raises:
        InputError: in transformers' words, when values do not go together, or cannot be generated with.
    """
    try:
        config = GenerationConfig(**settings, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
        config.validate(strict=True)
        try_settings(config, len(tokenizer))
    except Exception as error:  # each setting is looked at in another place, and refused in another way
        raise InputError(f"generation: {error}") from error
    return config


def try_settings(config: GenerationConfig, vocabulary: int) -> None:
    """Generates with a model of one layer: most of what transformers refuses it refuses at the first token, which would
    be after the model is loaded."""
    trial = copy.deepcopy(config)
    trial.max_new_tokens, trial.min_new_tokens = 2, None
    trial.max_length = trial.min_length = None
    ids = torch.ones(2, 2, dtype=torch.long)
    size = GPT2Config(
        vocab_size=vocabulary, n_embd=4, n_layer=1, n_head=1, n_positions=8, bos_token_id=None, eos_token_id=None
    )
    small = GPT2LMHeadModel(size)
    small.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=trial)


def check_context(requests: Sequence[GenerationRequest], max_new_tokens: int, context: int) -> None:
    """Raises InputError when a prompt with its reply, or with its reference, is longer than the model's context."""
    faults = []
    for request in requests:
        prompt, reply = request.length, max(max_new_tokens, len(request.reference_ids))
        if prompt + reply > context:
            faults.append(
                f"dataset, row {request.dialogue.index}: {prompt} tokens of prompt and up to {reply} of reply; the "
                f"model's context holds {context}: leave the row out, or load the model with a longer one (unsloth: "
                f"from_pretrained.max_seq_length)"
            )
    refuse_rows("dataset", faults)


def batches(items: Iterable[Item], size: int, length: Callable[[Item], int]) -> list[tuple[Item, ...]]:
    """Items of like length together, the longest first: what does not fit into memory does not fit at once."""
    by_length = sorted(items, key=lambda item: -length(item))
    return [tuple(by_length[start : start + size]) for start in range(0, len(by_length), size)]


def generate_batch(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, batch: Sequence[GenerationRequest], how: SamplingParams
) -> list[Completion]:
    """Draws every sample of every request of one batch; replies in the order of the requests.

    Each draw is seeded by the run's seed, the sample and the batch's first request, so a reply does not depend on what
    was drawn before it, nor in which process: two models, and a resumed run, meet the same numbers.

    Raises:
        RunError: when the model computes no number, or a single request does not fit into memory.
    """
    # Fields left empty would be filled from the model's own generation_config.json.
    model.generation_config = model.get_base_model().generation_config = how.config

    def answered(some: Sequence[GenerationRequest]) -> list[list[Completion]]:
        texts = [(request.prompt_ids, request.reference_ids) for request in some]
        likelihoods = log_probabilities(model, texts, how.config.pad_token_id)
        for request, likelihood in zip(some, likelihoods, strict=True):
            if not math.isfinite(likelihood):
                raise RunError(
                    f"row {request.dialogue.index}: the log-probability of its reference reply is {likelihood}: the "
                    f"model computes nonsense; is its adapter damaged, or its dtype float16?"
                )
        drawn = []
        for sample in range(how.samples):
            torch.manual_seed(draw_seed(how.seed, sample, some[0].dialogue.index))
            drawn.append(new_tokens(model, tokenizer, [request.prompt for request in some], how.config))
        return [
            [
                to_completion(request, sample, tokens, likelihood, tokenizer, how.config)
                for sample, tokens in enumerate(of_request)
            ]
            for request, likelihood, of_request in zip(some, likelihoods, zip(*drawn, strict=True), strict=True)
        ]

    return [reply for replies in split_on_oom(answered, batch) for reply in replies]


def draw_seed(seed: int, sample: int, row: int) -> int:
    """A seed for one draw; unlike a sum, no two draws of neighboring seeds share it."""
    return int(np.random.SeedSequence([seed, sample, row]).generate_state(1)[0])


def to_completion(
    request: GenerationRequest,
    sample: int,
    tokens: list[int],
    likelihood: float,
    tokenizer: PreTrainedTokenizerBase,
    config: GenerationConfig,
) -> Completion:
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    unfinished = tokens[-1:] != [config.eos_token_id]
    return Completion(request, sample, text.strip(), len(tokens), unfinished, likelihood)


def new_tokens(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], config: GenerationConfig
) -> list[list[int]]:
    """Samples one completion a prompt; token ids up to and with the EOS, without padding."""
    with padding_side(tokenizer, "left"):
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    batch = batch.to(model.device)
    # unsloth's fast generation reads the pad token from a keyword alone; elsewhere the keyword is deprecated.
    pad = {"pad_token_id": config.pad_token_id} if has_unsloth_gpu_code() else {}
    with torch.inference_mode():
        whole = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            generation_config=config,
            **pad,
        )
    completions = whole[:, batch["input_ids"].shape[1] :].tolist()
    return [truncate_at_eos(tokens, config.eos_token_id) for tokens in completions]


def truncate_at_eos(tokens: list[int], eos: int) -> list[int]:
    return tokens[: tokens.index(eos) + 1] if eos in tokens else tokens


@contextmanager
def padding_side(tokenizer: PreTrainedTokenizerBase, side: str) -> Iterator[None]:
    before = tokenizer.padding_side
    tokenizer.padding_side = side
    try:
        yield
    finally:
        tokenizer.padding_side = before
