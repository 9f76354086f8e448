"""Talks to the trained response generator, in the terminal or in a browser.

    python -m response_generator.chat --json_file args/chat_arg.json
    python -m response_generator.chat --json_file args/chat_arg.json --serve [PORT]

Every reply is asked for an emotion, and two classifiers say whether it has it. /help lists the commands. From a pipe,
each line is a message or a command, and each reply is printed as one line. With --serve the chat is a page in a
browser, on this machine only.
"""

import contextlib
import signal
import sys
from argparse import Namespace

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, preflight
from response_generator.config.chat_schema import ChatArguments
from response_generator.modeling.backend import import_backend

DEFAULT_PORT, MAX_PORT = 8000, 65535
THIS_MACHINE = "127.0.0.1"


def main() -> None:
    options = read_options()
    args = command_line.read_arguments(ChatArguments, options)
    preflight.check_chat(args)
    with contextlib.redirect_stdout(sys.stderr):  # in a pipe, only the replies go to stdout
        import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
        from response_generator.chat import server, terminal
        from response_generator.chat.dialogue import Conversation
        from response_generator.chat.reply_writer import ReplyWriter

        writer = ReplyWriter(args)
        show_checked(writer)
        if options.dry_run:
            print(f"context: {writer.context} tokens; a prompt: {writer.sample_prompt!r}")
            return
        # It takes the port, so that an error comes before the models are loaded.
        page = None if options.serve is None else server.ChatServer(options.host, options.serve)
        writer.load()

    def start_dialogue() -> Conversation:
        return Conversation(writer, args.emotion, args.my_emotion, args.seed)

    if page:
        page.serve(start_dialogue)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        terminal.chat_in_terminal(start_dialogue())
    else:
        terminal.answer_pipe(start_dialogue())


def read_options() -> Namespace:
    parser, _ = command_line.build_parser(ChatArguments, __doc__)
    parser.prog = "python -m response_generator.chat"
    parser.add_argument(
        "--serve",
        nargs="?",
        type=int,
        const=DEFAULT_PORT,
        metavar="PORT",
        help=f"chat in a browser ({DEFAULT_PORT}); 0: any free port",
    )
    parser.add_argument("--host", metavar="ADDRESS", help=f"with --serve: address to listen on ({THIS_MACHINE})")
    options = parser.parse_args()
    if options.host is not None and options.serve is None:
        parser.error("--host goes with --serve")
    if options.serve is not None and not 0 <= options.serve <= MAX_PORT:
        parser.error(f"--serve {options.serve}: allowed: 0 to {MAX_PORT}")
    options.host = options.host or THIS_MACHINE
    return options


def show_checked(writer) -> None:
    """Prints the adapters, and which required markers a prompt lacks."""
    for name, adapter in writer.adapters.items():
        print(f"{name}: {adapter.folder if adapter else 'the bare base model'}")
    for marker in writer.formatter.missing_markers(writer.sample_prompt):
        print(f"chat_template.required_markers: the prompt does not contain {marker!r}")


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
