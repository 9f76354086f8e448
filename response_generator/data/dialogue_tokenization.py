"""Tokenizes dialogues for SFT, with labels on the assistant's replies, and counts what was dropped or truncated."""

from collections.abc import Sequence
from dataclasses import dataclass

from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Message, get_emotion
from response_generator.data.pair_tokenization import TOO_LONG, TokenizedRows
from response_generator.data.prompt_tokens import tokenize_prompt_and_completions
from response_generator.errors import InputError

IGNORED_LABEL = -100  # of torch's cross entropy
DROPPED_DIALOGUES = "dropped_dialogues"  # part of metric names


@dataclass
class TokenizedDialogues(TokenizedRows):
    """Each of `rows` has `input_ids` and `labels` (unpadded, of the same length). The labels are the token ids of the
    replies, including their EOS, and IGNORED_LABEL elsewhere. `merged` counts earlier replies, which are left out of
    the loss."""

    longest_part = "dialogue"

    replies: int = 0

    def dropped_metrics(self, key: str) -> dict[str, int]:
        """Returns the metric `key/dropped_dialogues`; empty without drops."""
        return {f"{key}/{DROPPED_DIALOGUES}": self.dropped.total()} if self.dropped else {}

    def lengths(self) -> dict[str, list[int]]:
        """Returns for each row its tokens, and its tokens in the loss."""
        return {
            "dialogue": [len(row["input_ids"]) for row in self.rows],
            "replies": [sum(label != IGNORED_LABEL for label in row["labels"]) for row in self.rows],
        }


@dataclass(frozen=True)
class TokenizedReply:
    """The text of a prompt and its reply, and the token ids of both, as they are in generation."""

    text: str
    prompt_ids: list[int]
    reply_ids: list[int]


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
        turns = [*dialogue.history, {"role": "assistant", "content": dialogue.gold_content}]
        last = len(turns) - 1
        replies_of_bot = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
        places = replies_of_bot if replies == "all" else [last]
        prompt = formatter.prompt(turns[:last], dialogue.target_emotion)
        tokens.missing_markers.update(formatter.missing_markers(prompt))
        tokens.special_tokens.update(formatter.special_tokens_in(turns))
        input_ids, labels, merged = label_replies(turns, places, formatter)
        if max_length is not None and len(input_ids) > max_length:
            tokens.truncated += 1
            input_ids, labels = input_ids[:max_length], labels[:max_length]
        if all(label == IGNORED_LABEL for label in labels):
            tokens.dropped[TOO_LONG] += 1
            continue
        tokens.replies += len(places) - merged
        tokens.merged += merged
        tokens.rows.append({"input_ids": input_ids, "labels": labels})
    if not tokens.rows:
        raise InputError(
            f"no dialogue can be used: in all {tokens.read} the reply is beyond {max_length} tokens (sft.max_length)"
        )
    return tokens


def label_replies(
    turns: list[Message], places: Sequence[int], formatter: ChatFormatter
) -> tuple[list[int], list[int], int]:
    """Token ids and labels of a dialogue, up to the EOS of its last reply.

    Args:
        places: the turns with labels, in ascending order; the last turn is one of them.

    Returns:
        The token ids, the labels, and the number of earlier replies without labels because one token spans the end of
        their prompt and their start, so that they have other tokens than when they are generated.
    """
    *earlier, last = [tokenize_reply(turns, place, formatter) for place in places]
    input_ids = [*last.prompt_ids, *last.reply_ids]
    labels = [IGNORED_LABEL] * len(input_ids)
    merged = 0
    for reply in (*earlier, last):
        if not last.text.startswith(reply.text):
            raise InputError(
                f"chat_template.file: {formatter.file}: renders an earlier reply in another way than when it is "
                f'generated, so one row cannot train all replies; set replies: "last"'
            )
        start, end = len(reply.prompt_ids), len(reply.prompt_ids) + len(reply.reply_ids)
        if input_ids[:end] == [*reply.prompt_ids, *reply.reply_ids]:
            labels[start:end] = reply.reply_ids
        else:
            merged += 1
    return input_ids, labels, merged


def tokenize_reply(turns: list[Message], place: int, formatter: ChatFormatter) -> TokenizedReply:
    content = turns[place]["content"]
    prompt = formatter.prompt(turns[:place], get_emotion(content))
    reply = formatter.completion(turns[:place], get_emotion(content), content)
    prompt_ids, (reply_ids,), _ = tokenize_prompt_and_completions(prompt, (reply,), formatter)
    return TokenizedReply(prompt + reply, prompt_ids, reply_ids)
