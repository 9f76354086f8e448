"""The state of one dialogue with the model, and everything that can be done with it. Nothing here prints."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from response_generator.chat.reply import Reply, ShowText
from response_generator.config import paths, strict_json
from response_generator.config.chat_schema import AUTO_EMOTION
from response_generator.config.library.key_rule import MAX_SEED
from response_generator.data.datasets import BadRow, Message, make_content, parse_dialogue
from response_generator.errors import InputError
from response_generator.labels import Labels
from response_generator.runs import json_lines


@dataclass(frozen=True)
class Turn:
    """A message of the user and the reply that continues the dialogue, `chosen`. `replies` has the replies of all
    adapters after a comparison. `emotion` is the message's label; None without labels."""

    emotion: str | None
    text: str
    replies: dict[str, Reply]
    chosen: str

    @property
    def reply(self) -> Reply:
        return self.replies[self.chosen]


class Conversation:
    """A method that fails or is stopped leaves the dialogue as it was.

    Raises:
        InputError: from every method, when the request makes no sense; the message says what is allowed.
        RunError: when memory is not enough for a reply.
    """

    def __init__(self, writer, emotion: str | None, user_emotion: str | None, seed: int):
        """
        Args:
            writer: a ReplyWriter.
            emotion, user_emotion, seed: as in ChatArguments.
        """
        self.writer, self.first_seed = writer, seed
        self.labels: Labels = writer.label_set
        self.adapters: tuple[str, ...] = writer.names
        self.wait_note: str = writer.wait_note
        self.adapter = self.adapters[0]
        self.emotion, self.user_emotion = emotion or self.labels.default, user_emotion
        self.turns: tuple[Turn, ...] = ()

    def set_emotion(self, emotion: str) -> None:
        self.emotion = check_choice("label", emotion, self.labels.names)

    def set_user_emotion(self, emotion: str) -> None:
        """Sets the label of the user's next messages; "auto": the classifier finds it."""
        chosen = check_choice("label", emotion, (*self.labels.names, AUTO_EMOTION) if self.labels else ())
        self.user_emotion = None if chosen == AUTO_EMOTION else chosen

    def set_adapter(self, name: str) -> None:
        self.adapter = check_choice("adapter", name, self.adapters)

    def say(self, text: str, show: ShowText) -> Turn:
        """Adds a message of the user and the reply to it."""
        return self.add(text, [self.adapter], show)

    def say_to_all(self, text: str, show: ShowText) -> Turn:
        """Adds a message and the replies of all adapters; the current adapter's continues the dialogue."""
        return self.add(text, self.adapters, show)

    def add(self, text: str, names: Sequence[str], show: ShowText) -> Turn:
        text = text.strip()
        if not text:
            raise InputError("the message is empty; write some text")
        if surrogate := strict_json.describe_lone_surrogate(text):
            raise InputError(f"the message holds {surrogate}; write the text again")
        emotion = self.user_emotion or self.writer.find_emotion(text) or self.labels.default
        turn = Turn(emotion, text, {}, self.adapter)
        turn = replace(turn, replies=self.write(self.turns, turn, names, self.first_seed, show))
        self.turns = (*self.turns, turn)
        return turn

    def again(self, seed: int | None, show: ShowText) -> Turn:
        """Replaces the last reply by one of the current adapter, with the current emotion.

        Args:
            seed: of the new reply; None: the one after the last reply's.
        """
        last = self.last_turn()
        if seed is None:
            seed = (last.reply.seed + 1) % (MAX_SEED + 1)
        if not 0 <= seed <= MAX_SEED:
            raise InputError(f"seed {seed}: allowed: 0 to {MAX_SEED}")
        return self.replace_replies([self.adapter], seed, show)

    def compare(self, show: ShowText) -> Turn:
        """Lets every adapter reply to the last message, with the last reply's seed; the current one's continues."""
        return self.replace_replies(self.adapters, self.last_turn().reply.seed, show)

    def replace_replies(self, names: Sequence[str], seed: int, show: ShowText) -> Turn:
        *earlier, last = self.turns
        turn = replace(last, replies=self.write(earlier, last, names, seed, show), chosen=self.adapter)
        self.turns = (*earlier, turn)
        return turn

    def choose(self, name: str) -> None:
        """Continues with this adapter, and with its reply of the last comparison."""
        turn = self.last_turn()
        if len(turn.replies) == 1:
            raise InputError("there is one reply to the last message; compare the adapters first")
        self.adapter = check_choice("adapter", name, tuple(turn.replies))
        self.turns = (*self.turns[:-1], replace(turn, chosen=self.adapter))

    def undo(self) -> str:
        """Removes the last message and its reply, and returns the message."""
        turn = self.last_turn()
        self.turns = self.turns[:-1]
        return turn.text

    def start_new(self) -> None:
        """Removes all turns. Emotions and adapter stay as they were chosen."""
        self.turns = ()

    def last_turn(self) -> Turn:
        if not self.turns:
            raise InputError("there is no message yet; write one first")
        return self.turns[-1]

    def write(
        self, earlier: Sequence[Turn], turn: Turn, names: Sequence[str], seed: int, show: ShowText
    ) -> dict[str, Reply]:
        history = [*list_messages(earlier), to_message("user", turn.emotion, turn.text)]
        return {name: self.writer.write(history, self.emotion, name, seed, show) for name in names}

    def to_row(self) -> dict[str, Any]:
        """The dialogue as a row of a data set, which evaluate.py reads. Its other column, `replies`, says how each
        reply was made.

        Raises:
            InputError: when the row cannot be used, for example because a reply is empty.
        """
        self.last_turn()
        row = {
            "prompt": list_messages(self.turns),
            "replies": [turn.reply.to_record() for turn in self.turns],
        }
        try:
            unusable = strict_json.find_unusable(row)
            if unusable:
                raise BadRow(": ".join(unusable[0]))
            parse_dialogue(0, row, self.labels)
        except BadRow as error:
            raise InputError(f"the dialogue is no row of a data set: {error}") from error
        return row

    def save(self, file: str) -> Path:
        """Appends the dialogue as one row to a .jsonl file, and returns its path."""
        row = self.to_row()
        try:
            path = Path(paths.resolve_path(file))
        except ValueError as error:
            raise InputError(f"{file}: {error}") from error
        if path.suffix != ".jsonl":
            raise InputError(f"{file}: needed: a file whose name ends with .jsonl")
        try:
            json_lines.append_jsonl(path, [row])
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        return path


def to_message(role: str, emotion: str | None, text: str) -> Message:
    return {"role": role, "content": make_content(emotion, text)}


def list_messages(turns: Sequence[Turn]) -> list[Message]:
    """The turns as messages. A reply has its target emotion, as in the prompt that it was written to."""
    messages = []
    for turn in turns:
        messages.append(to_message("user", turn.emotion, turn.text))
        messages.append(to_message("assistant", turn.reply.target_emotion, turn.reply.response))
    return messages


def check_choice(what: str, value: str, allowed: Sequence[str]) -> str:
    """Returns `value` if it is allowed.

    Raises:
        InputError: if not, with similar values.
    """
    if value in allowed:
        return value
    similar = [name for name in allowed if value and name.lower().startswith(value.lower())]
    similar = similar or get_close_matches(value.lower(), allowed, n=1)
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    raise InputError(f"{value[:40]!r} is no {what}; {hint}allowed: {', '.join(allowed) or 'none'}")
