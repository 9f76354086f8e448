"""Seeded multinomial sampling in left-padded batches."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

from response_generator.chat_template import Renderer
from response_generator.data import Dialogue
from response_generator.errors import InputError


@dataclass(frozen=True)
class Reply:
    """`new_tokens` counts what the model wrote, its EOS included."""

    dialogue: Dialogue
    prompt: str
    response: str
    new_tokens: int


@dataclass(frozen=True)
class Generated:
    """Replies in the order of the dialogues, and the seconds generation took."""

    replies: list[Reply]
    seconds: float


def generation_config(settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Builds the configuration of sampling; pad and eos are the tokenizer's.

    Raises:
        InputError: when values do not go together.
    """
    try:
        config = GenerationConfig(**settings, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
        config.validate(strict=True)
    except (ValueError, TypeError) as error:
        raise InputError(f"generation: {error}") from error
    return config


def generate(
    model: PeftModel,
    renderer: Renderer,
    dialogues: list[Dialogue],
    config: GenerationConfig,
    batch_size: int,
    seed: int,
) -> Generated:
    """Answers every dialogue's history with its target emotion.

    Prompts of like length share a batch, and each batch draws from a seed of its own, so the same prompts in the same
    batch size give the same replies.
    """
    prompts = [renderer.prompt(dialogue.history, dialogue.target_emotion) for dialogue in dialogues]
    by_length = sorted(range(len(prompts)), key=lambda row: -len(renderer.encode(prompts[row])))
    # Fields left empty would be filled from the model's own generation_config.json.
    model.generation_config = model.get_base_model().generation_config = config
    replies: dict[int, Reply] = {}
    started = time.monotonic()
    with tqdm(total=len(prompts), desc="generating", unit="row", dynamic_ncols=True) as bar:
        for number, start in enumerate(range(0, len(prompts), batch_size)):
            rows = by_length[start : start + batch_size]
            torch.manual_seed(seed + number)
            for row, tokens in zip(
                rows, new_tokens(model, renderer, [prompts[row] for row in rows], config), strict=True
            ):
                text = renderer.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                replies[row] = Reply(dialogues[row], prompts[row], text.strip(), len(tokens))
            bar.update(len(rows))
    return Generated([replies[row] for row in range(len(prompts))], time.monotonic() - started)


def new_tokens(model: PeftModel, renderer: Renderer, prompts: list[str], config: GenerationConfig) -> list[list[int]]:
    """Samples one completion a prompt; token ids up to and with the EOS, without padding."""
    with padding_side(renderer.tokenizer, "left"):
        batch = renderer.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    batch = batch.to(model.device)
    # unsloth's fast generation on a GPU reads the pad token from a keyword alone; elsewhere the keyword is deprecated.
    pad = {"pad_token_id": config.pad_token_id} if model.device.type == "cuda" else {}
    with torch.inference_mode():
        whole = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            generation_config=config,
            **pad,
        )
    completions = whole[:, batch["input_ids"].shape[1] :].tolist()
    return [up_to_eos(tokens, config.eos_token_id) for tokens in completions]


def up_to_eos(tokens: list[int], eos: int) -> list[int]:
    return tokens[: tokens.index(eos) + 1] if eos in tokens else tokens


@contextmanager
def padding_side(tokenizer: PreTrainedTokenizerBase, side: str) -> Iterator[None]:
    before = tokenizer.padding_side
    tokenizer.padding_side = side
    try:
        yield
    finally:
        tokenizer.padding_side = before
