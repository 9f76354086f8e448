"""Tokenizes dialogues for SFT, with labels on the assistant's replies, and counts what was dropped or truncated."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from datasets import Dataset

from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Message
from response_generator.data.tokenization import TOO_LONG, tokenize_prompt_and_completions
from response_generator.errors import InputError

IGNORED_LABEL = -100  # of torch's cross entropy
DROPPED_DIALOGUES = "dropped_dialogues"  # part of metric names


@dataclass
class TokenizedDialogues:
    """Tokenized dialogues and counts of dialogues.

    Each of `rows` has `input_ids` and `labels` (unpadded, of the same length). The labels are the token ids of the
    replies, including their EOS, and IGNORED_LABEL elsewhere.
    """

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    read: int = 0
    replies: int = 0
    dropped: Counter = field(default_factory=Counter)  # by reason
    truncated: int = 0
    missing_markers: Counter = field(default_factory=Counter)  # by marker
    special_tokens: Counter = field(default_factory=Counter)  # special tokens in message text, by token

    def dataset(self) -> Dataset:
        """Returns the rows with the column `length`, used by `train_sampling_strategy: "group_by_length"`."""
        return Dataset.from_list(self.rows).add_column("length", self.lengths()["dialogue"])

    def digest(self) -> str:
        """Returns a hash of all token ids, by which a checkpoint recognizes its data."""
        return hashlib.sha256(json.dumps(self.rows).encode("utf-8")).hexdigest()

    def dropped_metrics(self, key: str) -> dict[str, int]:
        """Returns the metric `key/dropped_dialogues`; empty without drops."""
        return {f"{key}/{DROPPED_DIALOGUES}": self.dropped.total()} if self.dropped else {}

    def lengths(self) -> dict[str, list[int]]:
        """Returns for each row its tokens, and its tokens in the loss."""
        return {
            "dialogue": [len(row["input_ids"]) for row in self.rows],
            "replies": [sum(label != IGNORED_LABEL for label in row["labels"]) for row in self.rows],
        }


def tokenize_dialogues(
    dialogues: list[Dialogue], formatter: ChatFormatter, max_length: int | None, replies: str
) -> TokenizedDialogues:
    """Renders and tokenizes dialogues.

    A dialogue beyond `max_length` tokens is truncated at its end, and counted; it is dropped when no token of a reply
    is left.

    Args:
        replies: "all": labels on every reply of the assistant; "last": on the last one.

    Raises:
        InputError: when no dialogue can be used, or the template does not render earlier replies as it renders them
            when they are generated.
    """
    tokens = TokenizedDialogues(read=len(dialogues))
    for dialogue in dialogues:
        gold = {"emotion": dialogue.target_emotion, "dialog": dialogue.gold_response}
        turns = [*dialogue.history, {"role": "assistant", "content": gold}]
        last = len(turns) - 1
        places = range(1, len(turns), 2) if replies == "all" else [last]
        prompt = formatter.prompt(turns[:last], gold["emotion"])
        tokens.missing_markers.update(formatter.missing_markers(prompt))
        tokens.special_tokens.update(formatter.special_tokens_in(turns))
        input_ids, labels = label_replies(turns, places, formatter)
        if max_length is not None and len(input_ids) > max_length:
            tokens.truncated += 1
            input_ids, labels = input_ids[:max_length], labels[:max_length]
        if all(label == IGNORED_LABEL for label in labels):
            tokens.dropped[TOO_LONG] += 1
            continue
        tokens.replies += len(places)
        tokens.rows.append({"input_ids": input_ids, "labels": labels})
    if not tokens.rows:
        raise InputError(
            f"no dialogue can be used: in all {tokens.read} the reply is beyond {max_length} tokens (sft.max_length)"
        )
    return tokens


def label_replies(turns: list[Message], places: Iterator[int], formatter: ChatFormatter) -> tuple[list[int], list[int]]:
    """Token ids and labels of a dialogue, up to the EOS of its last reply.

    Args:
        places: the turns with labels, in ascending order; the last turn is one of them.
    """
    *earlier, last = [tokenize_reply(turns, place, formatter) for place in places]
    input_ids = [*last[0], *last[1]]
    labels = [IGNORED_LABEL] * len(input_ids)
    for prompt_ids, reply_ids in (*earlier, last):
        start, end = len(prompt_ids), len(prompt_ids) + len(reply_ids)
        if input_ids[:end] != [*prompt_ids, *reply_ids]:
            raise InputError(
                f"chat_template.file: {formatter.file}: renders an earlier reply in another way than when it is "
                f'generated, so one row cannot train all replies; set replies: "last"'
            )
        labels[start:end] = reply_ids
    return input_ids, labels


def tokenize_reply(turns: list[Message], place: int, formatter: ChatFormatter) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the reply of one turn, as they are in generation."""
    content = turns[place]["content"]
    prompt = formatter.prompt(turns[:place], content["emotion"])
    reply = formatter.completion(turns[:place], content["emotion"], content)
    prompt_ids, (reply_ids,) = tokenize_prompt_and_completions(prompt, (reply,), formatter)
    return prompt_ids, reply_ids
