"""What libraries print about themselves, such as banners and bars: hidden, unless a script runs with --verbose."""

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator

VERBOSE_VARIABLE = "RESPONSE_GENERATOR_VERBOSE"  # in the environment, so that child processes do as their parent
# About torchao's enums, and a kernel package that bitsandbytes does not need: nothing that a user can act on.
QUIET_LOGGERS = ("torch.utils._pytree", "bitsandbytes")
WARNING = re.compile(r"warning|error|fail|deprecat|not supported|unsupported", re.IGNORECASE)


def set_verbose(verbose: bool) -> None:
    os.environ[VERBOSE_VARIABLE] = "1" if verbose else "0"


def is_verbose() -> bool:
    return os.environ.get(VERBOSE_VARIABLE) == "1"


def silence_loggers() -> None:
    """To be called before the libraries are imported."""
    if not is_verbose():
        for name in QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def hide_prints() -> Iterator[None]:
    """Hides what a library prints to stdout, except warnings. After an exception everything is shown, on stderr."""
    if is_verbose():
        yield
        return
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    except BaseException:
        sys.stderr.write(printed.getvalue())
        raise
    for line in printed.getvalue().splitlines():
        if WARNING.search(line):
            print(line)
