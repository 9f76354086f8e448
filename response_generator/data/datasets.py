"""Reads dialogues and preference pairs and checks every row before a model is loaded."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from response_generator.config import strict_json
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.constants import EMOTIONS
from response_generator.errors import MAX_SHOWN_ERRORS, InputError, raise_row_errors

SKIPPED_ROWS = "skipped_rows"  # part of metric names
LABEL_COLUMNS = ("chosen_emotion", "chosen_gibberish_label", "chosen_gibberish_score")
USED_COLUMNS = {"prompt", "chosen", "rejected", "chosen_score", "rejected_score", *LABEL_COLUMNS}
MARKED_REPLY = re.compile(r"\s*\[EMOTION\]\s*(?P<emotion>.*?)\s*\[/EMOTION\]\s*(?P<dialog>.*)", re.DOTALL)

# A message's content is {"emotion", "dialog"} or, in preference data, a plain string.
Content = dict[str, str] | str
Message = dict[str, Any]  # {"role": "user" | "assistant", "content": Content}


@dataclass(frozen=True)
class Dialogue:
    """An evaluation row: the model replies to `history` with `target_emotion`; `gold_response` is the gold reply."""

    index: int
    history: list[Message]
    target_emotion: str
    gold_response: str


@dataclass(frozen=True)
class ReplyLabels:
    """What the classifiers found in a reply."""

    emotion: str
    gibberish_label: str
    gibberish_score: float


@dataclass(frozen=True)
class Pair:
    """A training row. `prompt` is rendered text or a list of messages.

    With a text prompt the completions are text; with messages they are message contents. Scores and labels are used by
    filters alone; training does not see them.
    """

    index: int
    prompt: str | list[Message]
    chosen: Content
    rejected: Content
    chosen_score: float | None
    rejected_score: float | None
    chosen_labels: ReplyLabels | None = None

    @property
    def margin(self) -> float | None:
        """`chosen_score - rejected_score`; None without both scores."""
        if self.chosen_score is None or self.rejected_score is None:
            return None
        return self.chosen_score - self.rejected_score


class BadRow(ValueError):
    """Why one row cannot be used; the message is "REASON; what is needed"."""

    @property
    def reason(self) -> str:
        return str(self).partition(";")[0]


Skipped = Counter[str]  # number of skipped rows by reason


def read_dialogues(dataset: DatasetArguments) -> tuple[list[Dialogue], Skipped]:
    """Reads evaluation rows (see `Dialogue`) and counts the bad rows that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of the first bad rows, unless they are skipped; or when no row can be used.
    """
    return parse_rows(dataset, parse_dialogue, columns={"prompt"})


def read_pairs(dataset: DatasetArguments) -> tuple[list[Pair], Skipped]:
    """Reads preference rows (see `Pair`) and counts the bad rows that `skip_bad_rows` leaves out.

    Raises:
        InputError: with the errors of the first bad rows, unless they are skipped; or when no row can be used.
    """
    return parse_rows(dataset, parse_pair, columns={"prompt", "chosen", "rejected"})


def parse_rows(
    dataset: DatasetArguments, parse: Callable[[int, dict], Any], columns: set[str]
) -> tuple[list[Any], Skipped]:
    from response_generator.data import raw_rows  # imports pyarrow, which takes longer than checking the args

    rows, errors, skipped = [], [], Counter()
    for index, (place, row) in enumerate(raw_rows.read_rows(dataset)):
        try:
            if not isinstance(row, dict):
                raise BadRow(f"is {describe_json_type(row)}; needed: an object with {', '.join(sorted(columns))}")
            missing_columns = sorted(columns - {key for key, value in row.items() if value is not None})
            if missing_columns:
                raise BadRow(f"has no {', '.join(missing_columns)}; its columns: {', '.join(row) or 'none'}")
            unusable = strict_json.find_unusable({key: row[key] for key in USED_COLUMNS & set(row)})
            if unusable:
                raise BadRow(": ".join(unusable[0]))
            rows.append(parse(index, row))
        except BadRow as error:
            errors.append((place, error))
            skipped[error.reason] += 1
    if not rows and not errors:
        raise InputError(f"{dataset.path} (split {dataset.split}): holds no rows")
    if not rows or not dataset.skip_bad_rows:
        raise_row_errors(dataset.path, describe_bad_rows(errors, skipped), "kinds of bad rows")
    return rows, skipped


def describe_bad_rows(errors: list[tuple[str, BadRow]], counts: Skipped) -> list[str]:
    """A line for each bad row; where there are many, one for the first row of each reason, with the number of others.

    Args:
        counts: of the rows by reason.
    """
    if len(errors) <= MAX_SHOWN_ERRORS:
        return [f"{place} {error}" for place, error in errors]
    first = {error.reason: (place, error) for place, error in reversed(errors)}
    return [
        f"{first[reason][0]} {first[reason][1]}" + (f" (and {count - 1} more rows like this)" if count > 1 else "")
        for reason, count in counts.most_common()
    ]


def count_skipped(key: str, dataset: DatasetArguments, skipped: Skipped) -> dict[str, int]:
    """Returns the metrics `key/skipped_rows` (total) and `key/skipped_rows/REASON`; none without `skip_bad_rows`."""
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
                raise BadRow(f"{name} is {describe_json_type(text)}; needed: text, because the prompt is text")
    else:
        prompt = check_messages(prompt, "prompt", strings=True)
        if prompt[-1]["role"] != "user":
            raise BadRow(f"prompt ends with {prompt[-1]['role']}; its last turn must be the user's")
        chosen, rejected = parse_completion(chosen, "chosen"), parse_completion(rejected, "rejected")
    scores = parse_score(row, "chosen_score"), parse_score(row, "rejected_score")
    return Pair(index, prompt, chosen, rejected, *scores, parse_labels(row))


def parse_completion(messages: Any, name: str) -> Content:
    if not isinstance(messages, list) or len(messages) != 1:
        length = f" of {len(messages)}" if isinstance(messages, list) and messages else ""
        raise BadRow(f"{name} is {describe_json_type(messages)}{length}; needed: a list of one assistant message")
    message = messages[0]
    if not isinstance(message, dict) or message.get("role") != "assistant":
        raise BadRow(f"{name} is not an assistant message")
    return check_content(message.get("content"), name, strings=True)


def parse_labels(row: dict) -> ReplyLabels | None:
    """Returns the labels of the chosen reply if the row has all LABEL_COLUMNS, otherwise None."""
    if any(row.get(name) is None for name in LABEL_COLUMNS):
        return None
    emotion, label, score = (row[name] for name in LABEL_COLUMNS)
    if emotion not in EMOTIONS:
        raise BadRow(f"chosen_emotion is {emotion!r}; allowed: {', '.join(EMOTIONS)}")
    if not isinstance(label, str):
        raise BadRow(f"chosen_gibberish_label is {describe_json_type(label)}; needed: text")
    return ReplyLabels(emotion, label, parse_score(row, "chosen_gibberish_score"))


def parse_score(row: dict, name: str) -> float | None:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise BadRow(f"{name} is {describe_json_type(value)}; needed: a number, or no score")
    if value is not None and abs(value) > sys.float_info.max:  # an integer with more than 300 digits
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
            raise BadRow(f"{place}: role is {role!r}; needed: {expected!r} (user and assistant alternate, user first)")
        turns.append({"role": role, "content": check_content(message.get("content"), place, strings)})
    return turns


def check_content(content: Any, place: str, strings: bool) -> Content:
    if strings and isinstance(content, str) and content.strip():
        marked = MARKED_REPLY.fullmatch(content)
        if not marked:
            return content
        # The template writes the emotion into the prompt; the model generates only the text after it.
        content = marked.groupdict()
    if not isinstance(content, dict) or not {"emotion", "dialog"} <= set(content):
        raise BadRow(f"{place}: content is {describe_json_type(content)}; needed: an object with emotion and dialog")
    emotion, dialog = content["emotion"], content["dialog"]
    if emotion not in EMOTIONS:
        raise BadRow(f"{place}: emotion is {emotion!r}; allowed: {', '.join(EMOTIONS)}")
    if not isinstance(dialog, str) or not dialog.strip():
        raise BadRow(f"{place}: dialog is {describe_json_type(dialog)}; needed: text")
    return {"emotion": emotion, "dialog": dialog}


def describe_json_type(value: Any) -> str:
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, str) and not value.strip():
        return "blank"
    return {list: "a list", dict: "an object", str: "text", type(None): "null"}.get(type(value), repr(value)[:40])
