"""Dialogues and preference pairs, checked row by row, before any model is loaded."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from response_generator.config import strict_json
from response_generator.config.schema import DatasetArguments
from response_generator.constants import EMOTIONS
from response_generator.data.raw_rows import describe_json_type, read_rows
from response_generator.errors import InputError, raise_row_errors

SKIPPED_ROWS = "skipped_rows"  # in the names of metrics
USED_COLUMNS = {"prompt", "chosen", "rejected", "chosen_score", "rejected_score"}
MARKED_REPLY = re.compile(r"\s*\[EMOTION\]\s*(?P<emotion>.*?)\s*\[/EMOTION\]\s*(?P<dialog>.*)", re.DOTALL)

# A message's content is {"emotion", "dialog"} or, in preference data, a plain string.
Content = dict[str, str] | str
Message = dict[str, Any]  # {"role": "user" | "assistant", "content": Content}


@dataclass(frozen=True)
class Dialogue:
    """A row of evaluation: the model answers `history` with `target_emotion`; a person once wrote `gold_response`."""

    index: int
    history: list[Message]
    target_emotion: str
    gold_response: str


@dataclass(frozen=True)
class Pair:
    """A row of training. `prompt` is rendered text or a list of messages; then the completions are contents.

    The scores describe the data set; they never reach the trainer.
    """

    index: int
    prompt: str | list[Message]
    chosen: Content
    rejected: Content
    chosen_score: float | None
    rejected_score: float | None


class BadRow(ValueError):
    """Why one row cannot be used: the reason, then, after a semicolon, what is needed instead."""

    @property
    def reason(self) -> str:
        return str(self).partition(";")[0]


Skipped = Counter[str]  # rows that were left out, by the reason


def read_dialogues(dataset: DatasetArguments) -> tuple[list[Dialogue], Skipped]:
    """Reads evaluation rows, see `Dialogue`, and counts the bad ones that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of the first bad rows, where they are not to be skipped; or when no row is left.
    """
    return parse_rows(dataset, parse_dialogue, columns={"prompt"})


def read_pairs(dataset: DatasetArguments) -> tuple[list[Pair], Skipped]:
    """Reads preference rows, see `Pair`, and counts the bad ones that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of the first bad rows, where they are not to be skipped; or when no row is left.
    """
    return parse_rows(dataset, parse_pair, columns={"prompt", "chosen", "rejected"})


def parse_rows(
    dataset: DatasetArguments, parse: Callable[[int, dict], Any], columns: set[str]
) -> tuple[list[Any], Skipped]:
    rows, errors, skipped = [], [], Counter()
    for index, (place, row) in enumerate(read_rows(dataset)):
        try:
            if not isinstance(row, dict):
                raise BadRow(f"is {describe_json_type(row)}; needed: an object with {', '.join(sorted(columns))}")
            absent = sorted(columns - {key for key, value in row.items() if value is not None})
            if absent:
                raise BadRow(f"has no {', '.join(absent)}; its columns: {', '.join(row) or 'none'}")
            unusable = strict_json.find_unusable({key: row[key] for key in USED_COLUMNS & set(row)})
            if unusable:
                raise BadRow(": ".join(unusable[0]))
            rows.append(parse(index, row))
        except BadRow as error:
            errors.append(f"{place} {error}")
            skipped[error.reason] += 1
    if not rows and not errors:
        raise InputError(f"{dataset.path} (split {dataset.split}): holds no rows")
    if not rows or not dataset.skip_bad_rows:
        raise_row_errors(dataset.path, errors)
    return rows, skipped


def count_skipped(key: str, dataset: DatasetArguments, skipped: Skipped) -> dict[str, int]:
    """The account of `skip_bad_rows` for metrics.json: `key/skipped_rows`, in all and by reason."""
    if not dataset.skip_bad_rows:
        return {}
    name = f"{key}/{SKIPPED_ROWS}"
    return {name: skipped.total()} | {f"{name}/{reason}": count for reason, count in sorted(skipped.items())}


def parse_dialogue(index: int, row: dict) -> Dialogue:
    turns = check_messages(row["prompt"], "prompt", strings=False)
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise BadRow(f"prompt ends with {turns[-1]['role']}; the last turn (here {len(turns)}) must be the assistant's")
    last = turns[-1]["content"]
    return Dialogue(index, turns[:-1], last["emotion"], last["dialog"])


def parse_pair(index: int, row: dict) -> Pair:
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    if isinstance(prompt, str):
        for name, text in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
            if not isinstance(text, str) or not text.strip():
                raise BadRow(f"{name} is {describe_json_type(text)}; needed: text, as the prompt is text")
    else:
        prompt = check_messages(prompt, "prompt", strings=True)
        if prompt[-1]["role"] != "user":
            raise BadRow(f"prompt ends with {prompt[-1]['role']}; its last turn must be the user's")
        chosen, rejected = parse_completion(chosen, "chosen"), parse_completion(rejected, "rejected")
    return Pair(index, prompt, chosen, rejected, parse_score(row, "chosen_score"), parse_score(row, "rejected_score"))


def parse_completion(messages: Any, name: str) -> Content:
    if not isinstance(messages, list) or len(messages) != 1:
        number = f" of {len(messages)}" if isinstance(messages, list) and messages else ""
        raise BadRow(f"{name} is {describe_json_type(messages)}{number}; needed: a list of one assistant message")
    message = messages[0]
    if not isinstance(message, dict) or message.get("role") != "assistant":
        raise BadRow(f"{name} is not an assistant message")
    return check_content(message.get("content"), name, strings=True)


def parse_score(row: dict, name: str) -> float | None:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise BadRow(f"{name} is {describe_json_type(value)}; needed: a number, or leave it out")
    if value is not None and abs(value) > sys.float_info.max:  # an integer of more than 300 digits
        raise BadRow(f"{name} is {describe_json_type(value)}; allowed: numbers up to {sys.float_info.max:.1e}")
    return value


def check_messages(messages: Any, name: str, strings: bool) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        raise BadRow(f"{name} is {describe_json_type(messages)}; needed: a list of turns")
    turns = []
    for number, message in enumerate(messages):
        place = f"{name}, turn {number + 1}"
        expected = "assistant" if number % 2 else "user"
        role = message.get("role") if isinstance(message, dict) else None
        if role == "system":
            raise BadRow(
                f"{place}: role is 'system'; put its text into chat_template.system_prompt, and remove the turn"
            )
        if role != expected:
            raise BadRow(f"{place}: role is {role!r}; needed {expected!r}: roles alternate from user")
        turns.append({"role": role, "content": check_content(message.get("content"), place, strings)})
    return turns


def check_content(content: Any, place: str, strings: bool) -> Content:
    if strings and isinstance(content, str) and content.strip():
        marked = MARKED_REPLY.fullmatch(content)
        if not marked:
            return content
        # A completion's mark belongs to the prompt: the model writes only the words.
        content = marked.groupdict()
    if not isinstance(content, dict) or not {"emotion", "dialog"} <= set(content):
        raise BadRow(f"{place}: content is {describe_json_type(content)}; needed: an object with emotion and dialog")
    emotion, dialog = content["emotion"], content["dialog"]
    if emotion not in EMOTIONS:
        raise BadRow(f"{place}: emotion is {emotion!r}; allowed: {', '.join(EMOTIONS)}")
    if not isinstance(dialog, str) or not dialog.strip():
        raise BadRow(f"{place}: dialog is {describe_json_type(dialog)}; needed: text")
    return {"emotion": emotion, "dialog": dialog}
