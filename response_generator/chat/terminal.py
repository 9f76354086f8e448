"""The chat in a terminal, and line by line from a pipe."""

import readline  # noqa: F401 (input() then edits the line, and arrow up brings earlier ones back)
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from response_generator.chat.commands import Quit, run_line
from response_generator.chat.dialogue import Conversation, Turn
from response_generator.chat.reply import Reply, ReplyStopped, ShowText
from response_generator.errors import InputError, RunError
from response_generator.runs.stop_signals import list_stop_signals
from response_generator.runs.terminal import PlainConsole, is_lost, show_controls, to_one_line

FACT_STYLES = {True: "green", False: "red", None: "dim"}  # by whether the target emotion was followed
STOPPED = "stopped; the dialogue is as it was before"


def chat_in_terminal(dialogue: Conversation) -> None:
    """Answers the user until /quit, Ctrl-D, SIGTERM or SIGHUP. A wrong line is answered by what is allowed."""
    for number in set(list_stop_signals()) - {signal.SIGINT}:
        signal.signal(number, leave)
    view = TerminalView(PlainConsole(highlight=False), dialogue.wait_note)
    view.show_note(f"adapters: {', '.join(dialogue.adapters)}; /help lists the commands")
    while True:
        try:
            line = input(f"[{', '.join(filter(None, (show_controls(dialogue.adapter), dialogue.emotion)))}] you: ")
            if line.strip():
                run_line(line, dialogue, view)
        except (InputError, RunError) as error:
            view.show_error(str(error))
        except KeyboardInterrupt:  # perhaps meant for a reply that had just ended
            print()
            view.show_note("no reply is being written; Ctrl-D or /quit leaves")
        except (Quit, EOFError):
            print()
            return


def leave(signal_number, frame) -> None:
    raise Quit


def answer_pipe(dialogue: Conversation) -> None:
    """Answers every line of stdin. Only replies are printed to stdout, one a line: adapter, reply and facts, separated
    by tabs.

    Raises:
        InputError: at the first wrong line, with its number.
    """
    sys.stdin.reconfigure(errors="surrogateescape")  # what is not UTF-8 is refused as part of a message
    view = PlainView()
    for number, line in enumerate(sys.stdin, 1):
        try:
            if line.strip():
                run_line(line, dialogue, view)
        except InputError as error:
            raise InputError(f"line {number}: {error}") from error
        except Quit:
            return
        if is_lost(sys.stdout):  # the next program of the pipe has ended, as head does
            return


class TerminalView:
    """Shows replies in color while they are written, several of them side by side. Ctrl-C stops them.

    Args:
        wait_note: shown before replies that are not shown on the way; empty where they are.
    """

    def __init__(self, console: Console, wait_note: str = ""):
        self.console, self.wait_note = console, wait_note

    def show_turn(self, request: Callable[[ShowText], Turn]) -> None:
        self.show_wait_note()
        with stop_on_ctrl_c() as stopped:

            def show(name: str, text: str) -> None:
                check_stopped(stopped)
                self.console.print(Text(text), end="", soft_wrap=True)

            try:
                (reply,) = request(show).replies.values()
            except ReplyStopped:
                reply = None
        self.console.print()
        self.show_facts(reply) if reply else self.show_note(STOPPED)

    def show_comparison(self, request: Callable[[ShowText], Turn]) -> None:
        self.show_wait_note()
        texts: dict[str, str] = {}
        with stop_on_ctrl_c() as stopped, Live(console=self.console, refresh_per_second=10) as live:

            def show(name: str, text: str) -> None:
                check_stopped(stopped)
                texts[name] = texts.get(name, "") + text
                live.update(arrange_side_by_side({name: Text(text) for name, text in texts.items()}))

            try:
                turn = request(show)
            except ReplyStopped:
                turn = None
            else:
                live.update(arrange_side_by_side({name: add_facts(reply) for name, reply in turn.replies.items()}))
        if turn is None:
            self.show_note(STOPPED)
        else:
            self.show_note(f"the dialogue continues with the reply of {turn.chosen}; /choose takes another one")

    def show_facts(self, reply: Reply) -> None:
        self.console.print(format_facts(reply))

    def show_wait_note(self) -> None:
        if self.wait_note:
            self.show_note(self.wait_note)

    def show_note(self, text: str) -> None:
        self.console.print(Text(text, "dim"))

    def show_error(self, text: str) -> None:
        self.console.print(Text(text, "bold red"))

    def show_help(self, rows: list[tuple[str, str]]) -> None:
        table = Table.grid(padding=(0, 2))
        for row in rows:
            table.add_row(*map(Text, row))
        self.console.print(table)


class PlainView:
    """Prints each reply as one line to stdout, and all else to stderr."""

    def show_turn(self, request: Callable[[ShowText], Turn]) -> None:
        for reply in request(lambda name, text: None).replies.values():
            print(reply.adapter, to_one_line(reply.response), reply.describe(), sep="\t", flush=True)

    show_comparison = show_turn

    def show_note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def show_help(self, rows: list[tuple[str, str]]) -> None:
        for usage, meaning in rows:
            print(usage, meaning, sep="\t", file=sys.stderr)


@contextmanager
def stop_on_ctrl_c() -> Iterator[Event]:
    """Makes Ctrl-C set an event: an exception in the middle of a computation could leave the model half changed."""
    stopped = Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def check_stopped(stopped: Event) -> None:
    if stopped.is_set():
        raise ReplyStopped


def format_facts(reply: Reply) -> Text:
    return Text(reply.describe(), FACT_STYLES[reply.is_followed])


def add_facts(reply: Reply) -> Group:
    return Group(Text(reply.response), format_facts(reply))


def arrange_side_by_side(replies: dict[str, Text | Group]) -> Table:
    table = Table.grid(expand=True)
    for _ in replies:
        table.add_column(ratio=1)
    table.add_row(*(Panel(reply, title=Text(name)) for name, reply in replies.items()))
    return table
