"""Generation requests, sampling settings, and seeded sampling in left-padded batches."""

import copy
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
from response_generator.data.tokenization import tokenize_prompt_and_completions
from response_generator.errors import InputError, raise_row_errors
from response_generator.modeling.backend import has_unsloth_gpu_code

Item = TypeVar("Item")


@dataclass(frozen=True)
class GenerationRequest:
    """A dialogue with its rendered prompt (text and token ids) and the token ids of its gold reply, including EOS."""

    dialogue: Dialogue
    prompt: str
    prompt_ids: list[int]
    gold_ids: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt_ids)

    @classmethod
    def of(cls, dialogue: Dialogue, formatter: ChatFormatter) -> "GenerationRequest":
        prompt = formatter.prompt(dialogue.history, dialogue.target_emotion)
        gold = {"emotion": dialogue.target_emotion, "dialog": dialogue.gold_response}
        completion = formatter.completion(dialogue.history, dialogue.target_emotion, gold)
        # Tokenized together, because tokens may merge across the boundary; such a token belongs to the reply.
        prompt_ids, (gold_ids,) = tokenize_prompt_and_completions(prompt, (completion,), formatter)
        return cls(dialogue, prompt, prompt_ids, gold_ids)


@dataclass(frozen=True)
class Completion:
    """A reply to a request. `new_tokens` includes its EOS; `hit_max_new_tokens`: no EOS within the limit."""

    request: GenerationRequest
    sample: int
    response: str
    new_tokens: int
    hit_max_new_tokens: bool


@dataclass(frozen=True)
class SamplingParams:
    """Sampling settings, the run's seed, and the number of samples per request."""

    config: GenerationConfig
    seed: int
    samples: int


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


def generate_batch(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[GenerationRequest],
    sampling: SamplingParams,
) -> list[list[Completion]]:
    """Generates all samples of every request, as one batch.

    Each draw has a seed of its own, made of the run's seed, the sample and the first request. So a completion depends
    neither on what was drawn before it nor on the process that draws it: two models, and a resumed run, use the same
    random numbers.

    Returns:
        One list of completions per request, in the order of the samples.
    """
    # Fields left empty would be filled from the model's own generation_config.json.
    model.generation_config = model.get_base_model().generation_config = sampling.config
    prompts = [request.prompt for request in requests]
    drawn = []
    for sample in range(sampling.samples):
        torch.manual_seed(draw_seed(sampling.seed, sample, requests[0].dialogue.index))
        drawn.append(sample_tokens(model, tokenizer, prompts, sampling.config))
    return [
        [to_completion(request, sample, tokens, tokenizer) for sample, tokens in enumerate(samples)]
        for request, samples in zip(requests, zip(*drawn, strict=True), strict=True)
    ]


def draw_seed(seed: int, sample: int, row: int) -> int:
    """The seed of one draw. It is a hash, so that draws of neighboring run seeds do not coincide."""
    return int(np.random.SeedSequence([seed, sample, row]).generate_state(1)[0])


def to_completion(
    request: GenerationRequest, sample: int, tokens: list[int], tokenizer: PreTrainedTokenizerBase
) -> Completion:
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    has_eos = tokens[-1:] == [tokenizer.eos_token_id]
    return Completion(request, sample, text.strip(), len(tokens), hit_max_new_tokens=not has_eos)


def sample_tokens(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], config: GenerationConfig
) -> list[list[int]]:
    """Samples one completion per prompt. Returns token ids up to and including EOS, without padding."""
    with padding_side(tokenizer, "left"):
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    batch = batch.to(model.device)
    # unsloth's fast generation reads the pad token only from this keyword; elsewhere the keyword is deprecated.
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
