"""Tokenizes preference pairs for the trainer and counts pairs that were dropped, truncated or suspicious."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from datasets import Dataset
from transformers import TrainingArguments

from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Pair, get_emotion, get_text
from response_generator.data.prompt_tokens import tokenize_prompt_and_completions
from response_generator.errors import InputError

DROPPED_PAIRS = "dropped_pairs"  # part of metric names
TOO_LONG = "prompt too long"
IDENTICAL = "chosen and rejected are the same"
ONLY_EOS = "a completion is nothing but EOS"
INNER_EOS = "EOS before the end of a completion"
LENGTH_COLUMNS = ("part", "min", "median", "p95", "max")
TEXT, MESSAGES = "text", "messages"  # form of a row's prompt


@dataclass
class TokenizedRows(ABC):
    """Tokenized rows of a data set, and counts of rows. `longest_part` is the part of `lengths` that is a whole row."""

    longest_part: ClassVar[str]

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    read: int = 0
    dropped: Counter = field(default_factory=Counter)  # by reason
    truncated: int = 0
    merged: int = 0  # completions of which a token would span the end of the prompt and their start
    missing_markers: Counter = field(default_factory=Counter)  # by marker
    special_tokens: Counter = field(default_factory=Counter)  # special tokens in message text, by token

    def dataset(self) -> Dataset:
        """Returns the rows with the column `length`, used by `train_sampling_strategy: "group_by_length"`."""
        return Dataset.from_list(self.rows).add_column("length", self.lengths()[self.longest_part])

    def digest(self) -> str:
        """Returns a hash of all token ids, by which a checkpoint recognizes its data."""
        return hashlib.sha256(json.dumps(self.rows).encode("utf-8")).hexdigest()

    @abstractmethod
    def dropped_metrics(self, key: str) -> dict[str, int]:
        """Returns the metrics of the dropped rows of the data set `key`; empty without drops."""

    @abstractmethod
    def lengths(self) -> dict[str, list[int]]:
        """Returns the token counts of each part of each row."""


@dataclass
class TokenizedPairs(TokenizedRows):
    """Each of `rows` has `prompt_ids`, `chosen_ids` and `rejected_ids` (unpadded token ids), as TRL's collator needs.
    The loss is computed on the completions, including their EOS. `merged` counts pairs."""

    longest_part = "whole"

    shared_starts: int = 0  # pairs whose prompt is the shared beginning of their completions
    unlike_evaluation: Counter = field(default_factory=Counter)  # prompts that end in another way, by TEXT or MESSAGES

    def dropped_metrics(self, key: str) -> dict[str, int]:
        """Returns the metrics `key/dropped_pairs` (total) and `key/dropped_pairs/REASON`; empty without drops."""
        name = f"{key}/{DROPPED_PAIRS}"
        counts = {f"{name}/{reason}": count for reason, count in sorted(self.dropped.items())}
        return {name: self.dropped.total()} | counts if counts else {}

    def lengths(self) -> dict[str, list[int]]:
        """Returns the token counts of each part of each row; "whole" is the prompt with its longer completion."""
        parts = {name: [len(row[f"{name}_ids"]) for row in self.rows] for name in ("prompt", "chosen", "rejected")}
        longer = [max(pair) for pair in zip(parts["chosen"], parts["rejected"], strict=True)]
        return parts | {"whole": [prompt + reply for prompt, reply in zip(parts["prompt"], longer, strict=True)]}


def summarize_lengths(lengths: dict[str, list[int]]) -> list[tuple[str, ...]]:
    """Rows of a table with the columns LENGTH_COLUMNS, from the token counts of each part."""
    rows = []
    for part, counts in lengths.items():
        statistics = (min(counts), np.median(counts), np.percentile(counts, 95), max(counts))
        rows.append((part, *(f"{value:.0f}" for value in statistics)))
    return rows


def global_batch_size(config: TrainingArguments) -> int:
    """Returns the number of pairs in one optimizer step over all processes."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size


def tokenize_pairs(pairs: list[Pair], formatter: ChatFormatter, max_length: int | None) -> TokenizedPairs:
    """Renders and tokenizes pairs.

    Pairs that are useless for training are dropped and counted by reason: the prompt leaves no room for a completion
    within `max_length` tokens, both completions are the same, or a completion is only an EOS or has an EOS before its
    end. Completions beyond `max_length` are truncated at the end (like `keep_start` of TRL), and their pairs counted.

    Raises:
        InputError: when no pair can be used.
    """
    tokens = TokenizedPairs(read=len(pairs))
    for pair in pairs:
        prompt, chosen, rejected = render_pair(pair, formatter)
        tokens.missing_markers.update(formatter.missing_markers(prompt))
        tokens.shared_starts += pair.has_shared_start
        form = TEXT if isinstance(pair.prompt, str) else MESSAGES
        tokens.unlike_evaluation[form] += not formatter.ends_as_in_evaluation(prompt)
        if form == MESSAGES:
            replies = [{"content": pair.chosen}, {"content": pair.rejected}]
            tokens.special_tokens.update(formatter.special_tokens_in([*pair.prompt, *replies]))
        reason = find_misplaced_eos(pair, formatter)
        if reason:
            tokens.dropped[reason] += 1
            continue
        prompt_ids, completions, is_merged = tokenize_prompt_and_completions(
            prompt, (chosen, rejected), formatter, find_leading_spaces(pair)
        )
        chosen_ids, rejected_ids = completions
        tokens.merged += is_merged
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
        limit = f"; the limit is {max_length} tokens (dpo.max_length or the model's context)"
        hint = limit if TOO_LONG in tokens.dropped else ""
        raise InputError(f"no pair can be used: {reasons}{hint}")
    return tokens


def find_misplaced_eos(pair: Pair, formatter: ChatFormatter) -> str | None:
    """Returns ONLY_EOS or INNER_EOS if a completion has no text before its EOS, or an EOS before its end."""
    eos = formatter.tokenizer.eos_token
    for completion in (pair.chosen, pair.rejected):
        text = formatter.with_one_eos(get_text(completion)).removesuffix(eos)
        if not text.strip():
            return ONLY_EOS
        if eos in text:
            return INNER_EOS
    return None


def render_pair(pair: Pair, formatter: ChatFormatter) -> tuple[str, str, str]:
    """Renders prompt, chosen and rejected as text, including special tokens."""
    if isinstance(pair.prompt, str):
        prompt = formatter.with_one_bos(pair.prompt)
        return prompt, formatter.with_one_eos(pair.chosen), formatter.with_one_eos(pair.rejected)
    # Both completions follow the same prompt, whose target emotion is that of `chosen`. The emotion of `rejected` is
    # not rendered.
    target = get_emotion(pair.chosen)
    chosen, rejected = (formatter.completion(pair.prompt, target, reply) for reply in (pair.chosen, pair.rejected))
    return formatter.prompt(pair.prompt, target), chosen, rejected


def find_leading_spaces(pair: Pair) -> str:
    """Returns the spaces with which both completions of a row of text start: where its author split prompt and reply.

    Completions of messages are written by the chat template, and have none of their own.
    """
    if not isinstance(pair.prompt, str):
        return ""
    start = os.path.commonprefix([pair.chosen, pair.rejected])
    return start[: len(start) - len(start.lstrip())]
