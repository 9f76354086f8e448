"""Turns the row formats of TRL, and columns of other names, into the form that `datasets.py` checks.

A pair becomes `prompt`, `chosen` and `rejected`: texts, or lists of messages. A dialogue becomes `prompt`, a list of
messages, with those of `completion` at its end. Of a text with a label, `text` and `emotion` are kept. A message's
`label` or `emotion` becomes a part of its content: {"emotion", "dialog"}.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from response_generator.data.datasets import BadRow, describe_json_type

MESSAGE_COLUMNS = ("prompt", "chosen", "rejected")
DIALOGUE_COLUMNS = ("prompt", "messages")
TEXT_COLUMNS = ("text", "emotion")
LABEL_KEYS = ("label", "emotion")  # of a message, beside its role and content


def normalize_pair(row: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns a row with `prompt`, `chosen` and `rejected`, and `has_shared_start`: whether the prompt was taken from
    the beginning that chosen and rejected share.

    Args:
        columns: `{column here: column of the data}` of the columns with other names in the data.

    Raises:
        BadRow: when a column is missing.
    """
    row = rename_columns(row, columns, "chosen, prompt, rejected")
    is_shared = has_shared_start(row)
    check_present(row, ("chosen", "rejected") if is_shared else MESSAGE_COLUMNS)
    row = row | {"has_shared_start": is_shared}
    if is_shared:
        row |= split_shared_start(row["chosen"], row["rejected"])
    return row | {name: add_labels(row[name], name) for name in MESSAGE_COLUMNS}


def normalize_dialogue(row: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns a row whose `prompt` is the whole dialogue, also where its column is `messages`, or where its last reply
    is in `completion`, as in TRL's data for SFT. See `normalize_pair`."""
    row = rename_columns(row, columns, "prompt")
    if row.get("messages") is not None and not isinstance(row.get("prompt"), list):
        row = row | {"prompt": row["messages"]}
    check_present(row, ("prompt",))
    turns = add_labels(row["prompt"], "prompt")
    if row.get("completion") is not None:
        turns = add_completion(turns, add_labels(row["completion"], "completion"))
    return row | {"prompt": turns}


def add_completion(turns: Any, completion: Any) -> list[Any]:
    """The turns with those of the completion after them.

    Raises:
        BadRow: when one of both is no list.
    """
    for name, messages in (("prompt", turns), ("completion", completion)):
        if not isinstance(messages, list):
            raise BadRow(f"{name} is {describe_json_type(messages)}; needed: a list of messages")
    return [*turns, *completion]


def normalize_text(row: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns a row with `text` and `emotion` alone. See `normalize_pair`."""
    row = rename_columns(row, columns, ", ".join(TEXT_COLUMNS))
    check_present(row, TEXT_COLUMNS, "columns takes other names; the first row decides what all rows of a data set are")
    return {name: row[name] for name in TEXT_COLUMNS}


def holds_texts(row: Any, columns: Mapping[str, str]) -> bool:
    """Whether a row is a text with a label, and not a dialogue.

    Raises:
        BadRow: when it is neither.
    """
    needed = '"text" and "emotion", or a dialogue in "prompt" or "messages"'
    row = rename_columns(row, columns, needed)
    if all(row.get(name) is not None for name in TEXT_COLUMNS):
        return not any(isinstance(row.get(name), list) and row[name] for name in DIALOGUE_COLUMNS)
    if all(row.get(name) is None for name in DIALOGUE_COLUMNS):
        found = ", ".join(row) or "none"
        raise BadRow(f"has neither form; needed: {needed}; its columns: {found}; columns takes other names")
    return False


def rename_columns(row: Any, columns: Mapping[str, str], needed: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadRow(f"is {describe_json_type(row)}; needed: an object with {needed}")
    missing = sorted(set(columns.values()) - set(row))
    if missing:
        raise BadRow(f"has no {', '.join(missing)}, named in columns; its columns: {', '.join(row) or 'none'}")
    return row | {name: row[source] for name, source in columns.items()}


def check_present(row: dict[str, Any], names: Sequence[str], advice: str = "columns takes other names") -> None:
    missing = sorted(name for name in names if row.get(name) is None)
    if missing:
        found = ", ".join(row) or "none"
        raise BadRow(f"has no {', '.join(missing)}; its columns: {found}; {advice}")


def has_shared_start(row: dict[str, Any]) -> bool:
    """Whether a pair has no prompt of its own: none at all, or a text beside whole conversations, as TRL reads them."""
    chosen, rejected, prompt = (row.get(name) for name in ("chosen", "rejected", "prompt"))
    if chosen is None or rejected is None:
        return False
    return prompt is None or (isinstance(prompt, str) and isinstance(chosen, list) and isinstance(rejected, list))


def split_shared_start(chosen: Any, rejected: Any) -> dict[str, Any]:
    """Splits two texts, or two lists of messages, where they first differ, as `extract_prompt` of TRL does.

    The spaces of a text are tokens of the replies: of a space before the difference, the prompt does not have the last
    one. If one of both is the beginning of the other, the prompt lacks its last character or message.

    Raises:
        BadRow: when they do not begin alike.
    """
    if type(chosen) is not type(rejected) or not isinstance(chosen, (str, list)):
        kinds = f"chosen is {describe_json_type(chosen)} and rejected {describe_json_type(rejected)}"
        raise BadRow(f"has no prompt, and {kinds}; needed: both texts, or both lists of messages")
    shorter = min(len(chosen), len(rejected))
    end = next((place for place in range(shorter) if chosen[place] != rejected[place]), None)
    if end is None:
        end = shorter - 1
    elif end > 0 and chosen[end - 1] == " ":
        end -= 1
    if end < 1:
        raise BadRow(
            "has no prompt of the same form as chosen and rejected, and these do not begin alike; needed: a column "
            "prompt"
        )
    return {"prompt": chosen[:end], "chosen": chosen[end:], "rejected": rejected[end:]}


def add_labels(messages: Any, name: str) -> Any:
    """Moves the label of each message into its content; what is no list of messages stays as it is."""
    if not isinstance(messages, list):
        return messages
    return [add_label(message, f"{name}, turn {number}") for number, message in enumerate(messages, 1)]


def add_label(message: Any, place: str) -> Any:
    if not isinstance(message, dict):
        return message
    found = [message[key] for key in LABEL_KEYS if message.get(key) is not None]
    if not found:
        return message
    content = message.get("content")
    if len(found) > 1 or isinstance(content, dict):
        raise BadRow(f"{place}: has more than one label; needed: one label, beside a content that is text")
    return message | {"content": {"emotion": found[0], "dialog": content}}
