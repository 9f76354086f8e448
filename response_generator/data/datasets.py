"""Dialogues and preference pairs, and the checks of the rows that they are made of."""

import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from response_generator.labels import Labels

LABEL_COLUMNS = ("chosen_emotion", "chosen_gibberish_label", "chosen_gibberish_score")
FIT_COLUMNS = ("chosen_fit", "rejected_fit")
MARKED_REPLY = re.compile(r"\s*\[EMOTION\]\s*(?P<emotion>.*?)\s*\[/EMOTION\]\s*(?P<dialog>.*)", re.DOTALL)

# A message's content is {"emotion", "dialog"} or, in preference data and without labels, a plain string.
Content = dict[str, str] | str
Message = dict[str, Any]  # {"role": "system" | "user" | "assistant", "content": Content}


@dataclass(frozen=True)
class Dialogue:
    """An evaluation row: the model replies to `history` with `target_emotion`, which is None without labels;
    `gold_response` is the gold reply. `replaced_target` is the gold reply's label where the target is another one."""

    index: int
    history: list[Message]
    target_emotion: str | None
    gold_response: str
    replaced_target: str | None = None

    @property
    def gold_target(self) -> str | None:
        """The label that people gave to the gold reply."""
        return self.target_emotion if self.replaced_target is None else self.replaced_target

    def ask_for(self, target: str) -> "Dialogue":
        return replace(self, target_emotion=target, replaced_target=self.gold_target)

    @property
    def gold_content(self) -> Content:
        """The gold reply as the content of a message."""
        return make_content(self.target_emotion, self.gold_response)


@dataclass(frozen=True)
class ReplyLabels:
    """What the classifiers found in a reply; None without a classifier."""

    emotion: str | None
    gibberish_label: str | None
    gibberish_score: float | None


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
    has_shared_start: bool = False  # the prompt was taken from the beginning of both completions
    chosen_fit: float | None = None  # to the dialogue, of pairs that were built with it
    rejected_fit: float | None = None

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


class UnknownLabel(BadRow):
    """A row has a label that is not among the labels of the run."""


Skipped = Counter[str]  # number of skipped rows by reason


def parse_dialogue(index: int, row: dict, labels: Labels) -> Dialogue:
    turns = check_messages(row["prompt"], "prompt", labels, strings=False)
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise BadRow(f"prompt ends with {turns[-1]['role']}; the last turn (here {len(turns)}) must be the assistant's")
    last = turns[-1]["content"]
    return Dialogue(index, turns[:-1], get_emotion(last), get_text(last))


def parse_pair(index: int, row: dict, labels: Labels) -> Pair:
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    if isinstance(prompt, str):
        for name, text in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
            if not isinstance(text, str) or not text.strip():
                raise BadRow(f"{name} is {describe_json_type(text)}; needed: text, because the prompt is text")
    else:
        prompt = check_messages(prompt, "prompt", labels, strings=True)
        if prompt[-1]["role"] != "user":
            raise BadRow(f"prompt ends with {prompt[-1]['role']}; its last turn must be the user's")
        chosen, rejected = parse_completion(chosen, "chosen", labels), parse_completion(rejected, "rejected", labels)
    scores = parse_score(row, "chosen_score"), parse_score(row, "rejected_score")
    fits = [parse_score(row, name) for name in FIT_COLUMNS]
    is_shared = row.get("has_shared_start", False)
    return Pair(index, prompt, chosen, rejected, *scores, parse_labels(row, labels), is_shared, *fits)


def parse_completion(messages: Any, name: str, labels: Labels) -> Content:
    if not isinstance(messages, list) or len(messages) != 1:
        length = f" of {len(messages)}" if isinstance(messages, list) and messages else ""
        raise BadRow(f"{name} is {describe_json_type(messages)}{length}; needed: a list of one assistant message")
    message = messages[0]
    if not isinstance(message, dict) or message.get("role") != "assistant":
        raise BadRow(f"{name} is not an assistant message")
    return check_content(message.get("content"), name, labels, strings=True)


def parse_labels(row: dict, labels: Labels) -> ReplyLabels | None:
    """Returns the labels of the chosen reply if the row has all LABEL_COLUMNS, otherwise None."""
    if any(row.get(name) is None for name in LABEL_COLUMNS):
        return None
    emotion, label, score = (row[name] for name in LABEL_COLUMNS)
    if labels:
        check_label(emotion, "chosen_emotion", labels)
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


def check_messages(messages: Any, name: str, labels: Labels, strings: bool) -> list[Message]:
    """Args:
    strings: whether a message of the assistant may have no label; one of the user may always.
    """
    if not isinstance(messages, list) or not messages:
        raise BadRow(f"{name} is {describe_json_type(messages)}; needed: a list of turns")
    turns = []
    for number, message in enumerate(messages):
        place = f"{name}, turn {number + 1}"
        role = message.get("role") if isinstance(message, dict) else None
        if role == "system" and number == 0:
            turns.append({"role": role, "content": check_plain_text(message.get("content"), place)})
            continue
        expected = "assistant" if turns and turns[-1]["role"] == "user" else "user"
        if role != expected:
            raise BadRow(
                f"{place}: role is {role!r}; needed: {expected!r} (user and assistant alternate, user first, after one "
                f"system message at most)"
            )
        content = check_content(message.get("content"), place, labels, strings or role == "user")
        turns.append({"role": role, "content": content})
    return turns


def check_content(content: Any, place: str, labels: Labels, strings: bool) -> Content:
    """Without labels, content is text; with labels an object, or text where `strings` are allowed."""
    if not labels:
        if has_emotion(content):
            raise BadRow(
                f"{place}: has the label {content['emotion']!r}, but labels is []; set labels to the labels of the "
                f"data, or remove them from the data"
            )
        return check_plain_text(content, place)
    if strings and isinstance(content, str) and content.strip():
        marked = MARKED_REPLY.fullmatch(content)
        if not marked:
            return content
        # The template writes the emotion into the prompt; the model generates only the text after it.
        content = marked.groupdict()
    if not isinstance(content, dict) or not {"emotion", "dialog"} <= set(content):
        raise BadRow(
            f"{place}: content is {describe_json_type(content)}; needed: text with a label beside it, or an object "
            f"with emotion and dialog"
        )
    emotion, dialog = content["emotion"], content["dialog"]
    check_label(emotion, f"{place}: emotion", labels)
    if not isinstance(dialog, str) or not dialog.strip():
        raise BadRow(f"{place}: dialog is {describe_json_type(dialog)}; needed: text")
    return {"emotion": emotion, "dialog": dialog}


def check_plain_text(content: Any, place: str) -> str:
    if not isinstance(content, str) or not content.strip():
        raise BadRow(f"{place}: content is {describe_json_type(content)}; needed: text")
    return content


def check_label(name: Any, place: str, labels: Labels) -> None:
    if name not in labels.names:
        raise UnknownLabel(f"{place} is {name!r}; allowed: {', '.join(labels.names)}")


def list_unknown_labels(row: dict, labels: Labels) -> set[str]:
    """All labels of a row that are not among `labels`."""
    turns = [turn for name in ("prompt", "chosen", "rejected") if isinstance(row.get(name), list) for turn in row[name]]
    contents = [turn.get("content") for turn in turns if isinstance(turn, dict)]
    found = [row.get("chosen_emotion"), *(content["emotion"] for content in contents if has_emotion(content))]
    found += [] if turns else [row.get("emotion")]  # of a text
    return {name for name in found if isinstance(name, str) and name not in labels.names}


def has_emotion(content: Any) -> bool:
    return isinstance(content, dict) and "emotion" in content


def make_content(emotion: str | None, text: str) -> Content:
    return text if emotion is None else {"emotion": emotion, "dialog": text}


def get_emotion(content: Content) -> str | None:
    """The label of a message; None where its content is text."""
    return None if isinstance(content, str) else content["emotion"]


def get_text(content: Content) -> str:
    return content if isinstance(content, str) else content["dialog"]


def describe_json_type(value: Any) -> str:
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, str) and not value.strip():
        return "blank"
    return {list: "a list", dict: "an object", str: "text", type(None): "null"}.get(type(value), repr(value)[:40])
