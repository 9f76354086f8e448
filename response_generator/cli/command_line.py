"""The command line that all scripts share: args file, overrides, dry run and exit status."""

import errno
import json
import os
import shutil
import signal
import sys
import textwrap
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from response_generator.config import paths
from response_generator.config.args_file import EXTENDS_KEY, ArgsFile
from response_generator.config.validation import Arguments, validate_arguments
from response_generator.errors import InputError, RunError
from response_generator.runs import distributed, library_output, terminal
from response_generator.runs.stop_signals import list_stop_signals

INTERRUPTED_STATUS = 130
MIN_HELP_CHARACTERS = 20  # of a line of --help, however narrow the terminal is
DISK_FULL = "{file} could not be written ({reason}); free space"
NOT_PERMITTED = "{file}: {reason}; let this user read and write it (another user may have made it)"
FILE_ERRORS = {  # errors of the disk, and what to do
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EFBIG: DISK_FULL,
    errno.EIO: "{file}: {reason}; check the disk",
    errno.EACCES: NOT_PERMITTED,
    errno.EPERM: NOT_PERMITTED,
    errno.EROFS: "{file}: {reason}; make the disk writable",
}


def build_parser(model: type[Arguments], description: str) -> tuple[ArgumentParser, Any]:
    """Builds a parser with the options that all scripts have.

    Returns:
        The parser, and the group of options of which exactly one is required: `--json_file`; scripts may add others.
    """
    parser = ArgumentParser(
        description=description,
        epilog="sections of the args file:\n" + describe_sections(model),
        formatter_class=RawDescriptionHelpFormatter,
    )
    inputs = parser.add_mutually_exclusive_group(required=True)
    inputs.add_argument("--json_file", type=parse_path, metavar="FILE", help="args file with all settings of the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="replace one value of the args file; VALUE is JSON, or text if it is not valid JSON; null removes the "
        "value; may be repeated",
    )
    add_verbose(parser)
    parser.add_argument("--dry_run", action="store_true", help="check everything and show the data, write nothing")
    return parser, inputs


def add_verbose(parser: ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="also show what the libraries print about themselves")


def read_arguments(model: type[Arguments], options: Namespace) -> Arguments:
    """Reads the args file with the files that it extends, applies the overrides and validates the result.

    `options.args_files` gets the names of all these files.

    Raises:
        InputError: with all errors found.
    """
    library_output.set_verbose(options.verbose)
    args_file = ArgsFile.read(options.json_file)
    options.args_files = tuple(str(file) for file, _ in args_file.parts)
    for assignment in options.set:
        apply_override(args_file.values, assignment)
    try:
        return validate_arguments(model, args_file.values, str(options.json_file))
    except InputError as error:
        raise InputError(*(name_origin(message, options, args_file) for message in error.messages)) from error


def name_origin(message: str, options: Namespace, args_file: ArgsFile) -> str:
    """Names, in an error about a value, where the value was written: `--set`, or the file that was extended."""
    described = message.removeprefix(f"{options.json_file}: ")
    for assignment in options.set:
        path = assignment.partition("=")[0]
        if described.startswith((f"{path}:", f"{path}.")):
            return f"--set: {described}"
    origin = args_file.find_origin(described.partition(": ")[0])
    return message if origin == options.json_file else f"{origin}: {described} (extended by {options.json_file})"


def parse_path(written: str) -> Path:
    """Expands `~` and environment variables in a path of the command line. A relative path stays relative."""
    try:
        return Path(paths.expand_path(written))
    except ValueError as error:
        raise ArgumentTypeError(f"{written!r}: {error}") from error


def describe_sections(model: type[Arguments]) -> str:
    """Each key of the args file with its description, wrapped as argparse wraps the options."""
    start, columns = max(map(len, model.model_fields)) + 4, shutil.get_terminal_size().columns - 2
    return "\n".join(
        textwrap.fill(
            terminal.to_plain_text(" ".join(field.description.split())),
            max(columns, start + MIN_HELP_CHARACTERS),
            initial_indent=f"  {key:<{start - 2}}",
            subsequent_indent=" " * start,
        )
        for key, field in model.model_fields.items()
    )


def apply_override(values: dict[str, Any], assignment: str) -> None:
    """Applies one `key.path=value` to `values` in place."""
    path, equals, text = assignment.partition("=")
    if not equals or not all(path.split(".")):
        raise InputError(f"--set {assignment}: allowed: KEY.PATH=VALUE, for example --set dpo.beta=0.2")
    if EXTENDS_KEY in path.split("."):
        raise InputError(
            f"--set {assignment}: only an args file extends another; write one, and name it as --json_file"
        )
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        value = text
    *parents, last = path.split(".")
    for parent in parents:
        parent = find_place(values, parent, assignment)
        if isinstance(values, dict) and not isinstance(values.get(parent), (dict, list)):
            values[parent] = {}
        values = values[parent]
    values[find_place(values, last, assignment)] = value


def find_place(values: Any, key: str, assignment: str) -> str | int:
    """The key of an object, or the number of an entry of a list, which must be there.

    Raises:
        InputError: when it is not.
    """
    if isinstance(values, dict):
        return key
    entries = [str(number) for number in range(len(values))] if isinstance(values, list) else []
    if key not in entries:
        found = f"a list with the entries {', '.join(entries)}" if entries else json.dumps(values)
        raise InputError(f"--set {assignment}: there is no {key} in {found}; write the whole value")
    return int(key)


def run_main(main: Callable[[], None]) -> int:
    """Runs a script's `main` and returns the exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    for number in list_stop_signals():
        signal.signal(number, signal.default_int_handler)
    terminal.protect_output()
    distributed.silence_other_processes()
    os.environ["MPLBACKEND"] = "agg"  # a notebook names a backend here that only its own environment has
    try:
        main()
    except InputError as error:
        print_errors(*(f"error: {message.replace(chr(10), ' ')}" for message in error.messages))
        return 2
    except RunError as error:
        # Not only in the main process: any process may fail.
        print(terminal.show_controls(f"error: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        print_errors(f"\ninterrupted: {str(interruption) or 'run the same command again'}")
        return INTERRUPTED_STATUS
    except OSError as error:
        if error.errno not in FILE_ERRORS:
            raise
        what = FILE_ERRORS[error.errno].format(file=error.filename or "a file", reason=error.strerror)
        print_errors(f"error: {what} and run the same command again")
        return 1
    return 0


def print_errors(*lines: str) -> None:
    """Prints to stderr in one process per machine, because the others have the same errors."""
    if distributed.is_local_main_process():
        print(terminal.show_controls("\n".join(lines)), file=sys.stderr)
