"""The commands that a user can write in place of a message, all beginning with a slash."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from response_generator.chat.dialogue import Conversation, check_choice
from response_generator.config.library.key_rule import MAX_SEED
from response_generator.errors import InputError
from response_generator.labels import Labels


class Quit(Exception):
    """The user wants to leave."""


@dataclass(frozen=True)
class Command:
    """argument: what is written after the command, "" for nothing; brackets: it may be left out."""

    argument: str
    meaning: str
    run: Callable


def run_line(line: str, dialogue: Conversation, view) -> None:
    """Answers one line of the user: a message or a command.

    Args:
        view: shows what happens, see `terminal`.

    Raises:
        InputError: when the line makes no sense.
        Quit: by /quit.
    """
    line = line.strip()
    if not line.startswith("/"):
        view.show_turn(lambda show: dialogue.say(line, show))
        return
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    commands = list_commands(dialogue.labels)
    command = commands[check_choice("command", name, tuple(commands))]
    if argument and not command.argument:
        raise InputError(f"{name} stands alone; got {argument[:40]!r} after it")
    if not argument and command.argument and not command.argument.startswith("["):
        raise InputError(f"{name}: missing: {command.argument}; {command.meaning}")
    command.run(argument, dialogue, view)


def set_emotion(argument: str, dialogue: Conversation, view) -> None:
    dialogue.set_emotion(argument)
    view.show_note(f"the next replies are asked for {dialogue.emotion}")


def set_user_emotion(argument: str, dialogue: Conversation, view) -> None:
    dialogue.set_user_emotion(argument)
    view.show_note(f"the label of your next messages: {dialogue.user_emotion or 'found by the classifier'}")


def set_adapter(argument: str, dialogue: Conversation, view) -> None:
    dialogue.set_adapter(argument)
    view.show_note(f"{dialogue.adapter} writes the next replies")


def reply_again(argument: str, dialogue: Conversation, view) -> None:
    if argument and not re.fullmatch(r"[0-9]{1,10}", argument):  # MAX_SEED has ten digits
        raise InputError(f"/again: got {argument[:40]!r}; allowed: a seed, which is a whole number up to {MAX_SEED}")
    view.show_turn(lambda show: dialogue.again(int(argument) if argument else None, show))


def compare(argument: str, dialogue: Conversation, view) -> None:
    view.show_comparison((lambda show: dialogue.say_to_all(argument, show)) if argument else dialogue.compare)


def choose(argument: str, dialogue: Conversation, view) -> None:
    dialogue.choose(argument)
    view.show_note(f"the dialogue continues with the reply of {dialogue.adapter}")


def undo(argument: str, dialogue: Conversation, view) -> None:
    view.show_note(f"removed: {dialogue.undo()}")


def start_new(argument: str, dialogue: Conversation, view) -> None:
    dialogue.start_new()
    view.show_note("a new dialogue")


def save(argument: str, dialogue: Conversation, view) -> None:
    view.show_note(f"appended to {dialogue.save(argument)}")


def show_help(argument: str, dialogue: Conversation, view) -> None:
    commands = list_commands(dialogue.labels)
    view.show_help([(f"{name} {each.argument}".strip(), each.meaning) for name, each in commands.items()])


def leave(argument: str, dialogue: Conversation, view) -> None:
    raise Quit


def list_commands(labels: Labels) -> dict[str, Command]:
    """The commands by name; without labels there is none to choose a label."""
    names = ", ".join(labels.names)
    choosing = {
        "/emotion": Command("LABEL", f"target label of the next replies: {names}", set_emotion),
        "/user_emotion": Command("LABEL", "label of your next messages; auto: by the classifier", set_user_emotion),
    }
    return (choosing if labels else {}) | COMMANDS


COMMANDS = {
    "/adapter": Command("NAME", "adapter that writes the next replies", set_adapter),
    "/again": Command("[SEED]", "another reply to your last message, with the next seed or this one", reply_again),
    "/compare": Command("[MESSAGE]", "replies of all adapters to your last message, or to a new one", compare),
    "/choose": Command("NAME", "after /compare: continue with the reply of this adapter", choose),
    "/undo": Command("", "remove your last message and the reply", undo),
    "/new": Command("", "start a new dialogue", start_new),
    "/save": Command("FILE.jsonl", "append the dialogue to a data set that evaluate.py reads", save),
    "/help": Command("", "list the commands", show_help),
    "/quit": Command("", "leave, as Ctrl-D does; Ctrl-C stops a reply", leave),
}
