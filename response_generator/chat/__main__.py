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
        # unsloth has to be imported before transformers, trl and peft; with a server no base model is loaded
        import_backend("transformers" if args.server else args.backend)
        from response_generator.programs import chat_run

    chat_run.chat(args, options.host, options.serve, options.dry_run)


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


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
