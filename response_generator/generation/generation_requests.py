"""Generation requests, sampling settings and replies."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue
from response_generator.data.prompt_tokens import tokenize_prompt_and_completions
from response_generator.errors import InputError, raise_row_errors
from response_generator.runs import distributed

ROUNDS_PER_BATCH = 4

Item = TypeVar("Item")
Tokens = list[int]


@dataclass(frozen=True)
class GenerationRequest:
    """A dialogue with its rendered prompt (text and token ids) and the token ids of its gold reply, including EOS. An
    empty gold reply has the log-probability 0. The prompt's ids do not depend on the gold reply."""

    dialogue: Dialogue
    prompt: str
    prompt_ids: Tokens
    gold_ids: Tokens

    @property
    def key(self) -> tuple[int, str | None]:
        """Names the request in a run, in which a dialogue may be asked for several targets."""
        return self.dialogue.index, self.dialogue.target_emotion

    @property
    def length(self) -> int:
        return len(self.prompt_ids)

    @classmethod
    def of(cls, dialogue: Dialogue, formatter: ChatFormatter) -> "GenerationRequest":
        prompt = formatter.prompt(dialogue.history, dialogue.target_emotion)
        completion = formatter.completion(dialogue.history, dialogue.target_emotion, dialogue.gold_content)
        prompt_ids, (gold_ids,), _ = tokenize_prompt_and_completions(prompt, (completion,), formatter)
        return cls(dialogue, prompt, prompt_ids, gold_ids)


@dataclass(frozen=True)
class Replies:
    """What a model wrote to a request: the token ids of each sample, with the EOS if it has one, and the gold reply's
    log-probability (nats); None where the server that wrote them tells none."""

    request: GenerationRequest
    samples: list[Tokens]
    gold_logp: float | None


@dataclass(frozen=True)
class SamplingParams:
    """Sampling settings, the run's seed, and the number of samples per request. Samples are numbered from
    `first_sample` on: a reply's random numbers depend on its number."""

    config: GenerationConfig
    seed: int
    samples: int
    first_sample: int = 0


@dataclass(frozen=True)
class BatchLimit:
    """How many replies are written at once: at most `rows`, and at most `tokens` of prompts and replies together."""

    rows: int
    tokens: int | None = None

    def count_rows(self, columns: int) -> int:
        """Returns how many rows of this many tokens fit, at least one."""
        return self.rows if self.tokens is None else max(1, min(self.rows, self.tokens // columns))

    def halve(self) -> "BatchLimit":
        return BatchLimit(max(1, self.rows // 2), self.tokens and self.tokens // 2)


def decode_reply(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of a reply, without special tokens and the spaces around it."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


# What transformers uses for settings that are not given.
SAMPLING_DEFAULTS = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}


def build_generation_config(settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Builds the generation configuration with the pad and EOS tokens of the tokenizer.

    Raises:
        InputError: with transformers' message, when values contradict each other or are not supported.
    """
    try:
        config = GenerationConfig(**settings, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
        config.validate(strict=True)
        check_settings(config, len(tokenizer))
    except Exception as error:  # each setting is checked in another place, with another exception
        raise InputError(f"generation: {error}") from error
    for name, value in SAMPLING_DEFAULTS.items():
        if getattr(config, name) is None:
            setattr(config, name, value)
    return config


def check_settings(config: GenerationConfig, vocabulary: int) -> None:
    """Generates two tokens with a model of one layer.

    transformers refuses most wrong settings only when it generates, which would be after the real model is loaded.
    """
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
    """Checks that each prompt fits into the model's context together with its longest reply and its gold reply.

    Raises:
        InputError: with the rows that do not fit.
    """
    errors = []
    for request in requests:
        prompt, reply = request.length, max(max_new_tokens, len(request.gold_ids))
        if prompt + reply > context:
            errors.append(
                f"dataset, row {request.dialogue.index}: {prompt} tokens of prompt and up to {reply} of reply; the "
                f"model's context holds {context}: leave the row out, or load the model with a longer one (unsloth: "
                f"from_pretrained.max_seq_length)"
            )
    raise_row_errors("dataset", errors)


def make_batches(items: Iterable[Item], size: int, length: Callable[[Item], int]) -> list[tuple[Item, ...]]:
    """Groups items of similar length, longest first, so that running out of memory shows at the start."""
    by_length = sorted(items, key=lambda item: -length(item))
    return [tuple(by_length[start : start + size]) for start in range(0, len(by_length), size)]


def split_requests(
    requests: Sequence[GenerationRequest], config: GenerationConfig, samples: int, limit: BatchLimit
) -> list[tuple[GenerationRequest, ...]]:
    """Splits the requests into batches whose replies are written to the file together, the longest first.

    A batch has several times as many replies as are generated at once, because the last ones of a batch leave rows
    empty. Each process gets at least one batch.
    """
    longest = max(request.length for request in requests) + config.max_new_tokens
    size = min(
        max(1, ROUNDS_PER_BATCH * limit.count_rows(longest) // samples),
        math.ceil(len(requests) / distributed.world_size()),
    )
    return make_batches(requests, size, lambda request: request.length)
