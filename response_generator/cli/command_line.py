"""The command line that all scripts share: an args file, overrides, a dry run, and what the exit status means."""

import errno
import json
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from response_generator.config import paths, strict_json
from response_generator.config.validation import Arguments, validate_arguments
from response_generator.errors import InputError, RunError
from response_generator.runs import distributed, library_output

INTERRUPTED_STATUS = 130
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def build_parser(model: type[Arguments], description: str) -> tuple[ArgumentParser, Any]:
    """The options that all scripts have.

    Returns:
        The parser, and the group of options of which one must be given: `--json_file`, and what a script adds to it.
    """
    parser = ArgumentParser(
        description=description,
        epilog="sections of the args file:\n" + describe_sections(model),
        formatter_class=RawDescriptionHelpFormatter,
    )
    one_of = parser.add_mutually_exclusive_group(required=True)
    one_of.add_argument("--json_file", type=parse_path, metavar="FILE", help="the args file: one complete run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="override one value of the file (VALUE is JSON, else text; null: as if the key were absent); repeatable",
    )
    add_verbose(parser)
    parser.add_argument("--dry_run", action="store_true", help="check everything, show the data, change nothing")
    return parser, one_of


def add_verbose(parser: ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="also show what the libraries print about themselves")


def read_arguments(model: type[Arguments], options: Namespace) -> Arguments:
    """The arguments in the args file, overrides applied.

    Raises:
        InputError: with every error found.
    """
    library_output.set_verbose(options.verbose)
    values = strict_json.read_object(options.json_file)
    for assignment in options.set:
        apply_override(values, assignment)
    return validate_arguments(model, values, str(options.json_file))


def parse_path(written: str) -> Path:
    """A path of the command line, as it is shown: home folder and variables put in, relative where it is written so."""
    try:
        return Path(paths.expand_path(written))
    except ValueError as error:
        raise ArgumentTypeError(f"{written!r}: {error}") from error


def describe_sections(model: type[Arguments]) -> str:
    return "\n".join(f"  {key:<20}{field.description}" for key, field in model.model_fields.items())


def apply_override(values: dict[str, Any], assignment: str) -> None:
    """Applies one `key.path=value` to `values` in place."""
    path, equals, text = assignment.partition("=")
    if not equals or not all(path.split(".")):
        raise InputError(f"--set {assignment}: write KEY.PATH=VALUE, for example --set dpo.beta=0.2")
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        value = text
    *parents, last = path.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values = values[parent]
    values[last] = value


def run_main(main: Callable[[], None]) -> int:
    """Runs a script's `main` and turns what stops it into an exit status: 0 done, 2 bad input, 130 interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):  # what a cluster sends is what Ctrl-C is
        signal.signal(number, signal.default_int_handler)
    distributed.silence_other_processes()
    try:
        main()
    except InputError as error:
        print_errors(*(f"error: {message}" for message in error.messages))
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)  # from whichever process it struck
        return 1
    except KeyboardInterrupt as interruption:
        print_errors(f"\ninterrupted: {str(interruption) or 'run the same command again'}")
        return INTERRUPTED_STATUS
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        print_errors(
            f"error: {error.filename or 'a file'} could not be written ({error.strerror}); free space and run the "
            f"same command again"
        )
        return 1
    return 0


def print_errors(*lines: str) -> None:
    """To stderr, once a machine: processes of one machine have the same to say."""
    if distributed.is_local_main_process():
        print("\n".join(lines), file=sys.stderr)
