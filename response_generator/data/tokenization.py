"""Preference pairs as tokens: what the trainer reads, and the account of what was dropped, cut or missing."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import TrainingArguments

from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Pair
from response_generator.errors import InputError

DROPPED_PAIRS = "dropped_pairs"  # in the names of metrics
TOO_LONG = "prompt too long"
IDENTICAL = "chosen and rejected are the same"
ONLY_EOS = "a completion is nothing but EOS"
INNER_EOS = "EOS before the end of a completion"
TEXT, MESSAGES = "text", "messages"  # what a row's prompt is


@dataclass
class TokenizedPairs:
    """`rows` hold `prompt_ids`, `chosen_ids`, `rejected_ids` (token ids, unpadded), the columns of TRL's collator.

    The loss falls on the completions, EOS included. Counts are of pairs.
    """

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    read: int = 0
    dropped: Counter = field(default_factory=Counter)  # by the reason
    truncated: int = 0
    merged: int = 0
    missing_markers: Counter = field(default_factory=Counter)
    special_tokens: Counter = field(default_factory=Counter)  # in the words of messages
    prompts_without_emotion: Counter = field(
        default_factory=Counter
    )  # prompts that no evaluation asks, by TEXT or MESSAGES

    def dataset(self) -> Dataset:
        """The rows with their whole length, by which `train_sampling_strategy: "group_by_length"` batches."""
        return Dataset.from_list(self.rows).add_column("length", self.lengths()["whole"])

    def digest(self) -> str:
        """A hash of all token ids, by which a checkpoint knows its data."""
        return hashlib.sha256(json.dumps(self.rows).encode("utf-8")).hexdigest()

    def dropped_metrics(self, key: str) -> dict[str, int]:
        """The account of the dropped pairs for metrics.json: `key/dropped_pairs`, in all and by reason."""
        name = f"{key}/{DROPPED_PAIRS}"
        counts = {f"{name}/{reason}": count for reason, count in sorted(self.dropped.items())}
        return {name: self.dropped.total()} | counts if counts else {}

    def lengths(self) -> dict[str, list[int]]:
        """Token counts of each part, over the pairs in use."""
        parts = {name: [len(row[f"{name}_ids"]) for row in self.rows] for name in ("prompt", "chosen", "rejected")}
        longer = [max(pair) for pair in zip(parts["chosen"], parts["rejected"], strict=True)]
        return parts | {"whole": [a + b for a, b in zip(parts["prompt"], longer, strict=True)]}


def global_batch_size(config: TrainingArguments) -> int:
    """Pairs that one optimizer step takes, over all processes."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size


def tokenize_pairs(pairs: list[Pair], formatter: ChatFormatter, max_length: int | None) -> TokenizedPairs:
    """Renders and tokenizes pairs.

    Dropped, and counted by reason, are pairs that teach nothing or something wrong: whose prompt leaves no room for a
    completion within `max_length` tokens, whose completions are the same, or hold nothing but EOS, or an EOS before
    their end. A longer completion loses its end, as TRL's `keep_start` has it, and is counted.

    Raises:
        InputError: when no pair is left.
    """
    tokens = TokenizedPairs(read=len(pairs))
    for pair in pairs:
        prompt, chosen, rejected = render_pair(pair, formatter)
        tokens.missing_markers.update(formatter.missing_markers(prompt))
        kind = TEXT if isinstance(pair.prompt, str) else MESSAGES
        tokens.prompts_without_emotion[kind] += not formatter.asks_for_emotion(prompt)
        if kind == MESSAGES:
            replies = [{"content": pair.chosen}, {"content": pair.rejected}]
            tokens.special_tokens.update(formatter.special_tokens_in([*pair.prompt, *replies]))
        misplaced = find_misplaced_eos(pair, formatter)
        if misplaced:
            tokens.dropped[misplaced] += 1
            continue
        prompt_ids, (chosen_ids, rejected_ids) = tokenize_prompt_and_completions(prompt, (chosen, rejected), formatter)
        tokens.merged += len(prompt_ids) < len(formatter.encode(prompt))
        room = max_length - len(prompt_ids) if max_length is not None else max(len(chosen_ids), len(rejected_ids))
        if room <= 0:
            tokens.dropped[TOO_LONG] += 1
            continue
        if chosen_ids[:room] == rejected_ids[:room]:
            tokens.dropped[IDENTICAL] += 1
            continue
        tokens.truncated += max(len(chosen_ids), len(rejected_ids)) > room
        tokens.rows.append(
            {"prompt_ids": prompt_ids, "chosen_ids": chosen_ids[:room], "rejected_ids": rejected_ids[:room]}
        )
    if not tokens.rows:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in sorted(tokens.dropped.items()))
        hint = f"; max_length is {max_length}: raise it" if TOO_LONG in tokens.dropped else ""
        raise InputError(f"no pair can be used: {reasons}{hint}")
    return tokens


def find_misplaced_eos(pair: Pair, formatter: ChatFormatter) -> str | None:
    """Why an EOS in one of the completions makes the pair useless: the template, and the model, would stop there."""
    eos = formatter.tokenizer.eos_token
    for completion in (pair.chosen, pair.rejected):
        written = completion if isinstance(completion, str) else completion["dialog"]
        words = formatter.with_one_eos(written).removesuffix(eos)
        if not words.strip():
            return ONLY_EOS
        if eos in words:
            return INNER_EOS
    return None


def render_pair(pair: Pair, formatter: ChatFormatter) -> tuple[str, str, str]:
    """Prompt, chosen and rejected as text, special tokens written out."""
    if isinstance(pair.prompt, str):
        prompt = formatter.with_one_bos(pair.prompt)
        return prompt, formatter.with_one_eos(pair.chosen), formatter.with_one_eos(pair.rejected)
    # Both replies answer one prompt, and it asks for the emotion of `chosen`; that of `rejected` only describes it.
    target = pair.chosen["emotion"] if isinstance(pair.chosen, dict) else None
    chosen, rejected = (formatter.completion(pair.prompt, target, reply) for reply in (pair.chosen, pair.rejected))
    return formatter.prompt(pair.prompt, target), chosen, rejected


def tokenize_prompt_and_completions(
    prompt: str, completions: tuple[str, ...], formatter: ChatFormatter
) -> tuple[list[int], list[list[int]]]:
    """Token ids of a prompt and of its completions, tokenized together.

    Where tokens merge across the boundary, the completion starts with the first token that is not the prompt's own.
    """
    prompt_ids = formatter.encode(prompt)
    wholes = [formatter.encode(prompt + completion) for completion in completions]
    shared = len(prompt_ids)
    for whole in wholes:
        common = next((at for at, (a, b) in enumerate(zip(prompt_ids, whole, strict=False)) if a != b), len(prompt_ids))
        shared = min(shared, common)
    return prompt_ids[:shared], [whole[shared:] for whole in wholes]
