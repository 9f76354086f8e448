"""A chat, from checking the adapters to the dialogue in a terminal, a pipe or a browser."""

import contextlib
import sys

from response_generator.chat import server, terminal
from response_generator.chat.dialogue import Conversation
from response_generator.chat.reply_writer import ReplyWriter
from response_generator.config.chat_schema import ChatArguments


def chat(args: ChatArguments, host: str, port: int | None, dry_run: bool) -> None:
    """Answers until the user leaves.

    Args:
        host: the address of the page.
        port: of the page; None: no page, but the terminal or a pipe.
        dry_run: check everything, and load no model.
    """
    with contextlib.redirect_stdout(sys.stderr):  # in a pipe, only the replies go to stdout
        writer = ReplyWriter(args)
        show_checked(writer)
        if dry_run:
            print(f"context: {writer.context} tokens; a prompt: {writer.sample_prompt!r}")
            return
        # It takes the port, so that an error comes before the models are loaded.
        page = None if port is None else server.ChatServer(host, port)
        writer.load()

    def start_dialogue() -> Conversation:
        return Conversation(writer, args.target_emotion, args.user_emotion, args.seed)

    if page:
        page.serve(start_dialogue)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        terminal.chat_in_terminal(start_dialogue())
    else:
        terminal.answer_pipe(start_dialogue())


def show_checked(writer: ReplyWriter) -> None:
    """Prints the adapters, and which required markers a prompt lacks."""
    for name, adapter in writer.adapters.items():
        print(f"{name}: {adapter.folder if adapter else 'the bare base model'}")
    for marker in writer.formatter.missing_markers(writer.sample_prompt):
        print(f"chat_template.required_markers: the prompt does not contain {marker!r}")
