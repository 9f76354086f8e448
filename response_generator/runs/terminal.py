"""What is printed: control characters are shown, any encoding will do, and a closed output does not end the run.

Data, replies, and names of models, columns and files may hold escape sequences, which would rename the terminal's
window, clear it or hide text.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# C0 and C1 control characters and DEL, without tab and newline; line and paragraph separators; characters that change
# the direction of the text around them; half surrogate pairs. The joiners of emoji and combining marks are not theirs.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
COLOR = re.compile(r"\x1b\[[0-9;]*m")
BAR_MOVE = re.compile(r"\r|(\x1b\[A)+")  # with which tqdm begins to write a bar
CLOSED_ERRNOS = (errno.EPIPE, errno.EIO)  # the reader has ended, as head does; the terminal is gone
STANDARD_DESCRIPTORS = (0, 1, 2)
LOG_WIDTH = 150  # characters of a table, where the output is not a terminal


def show_controls(text: str) -> str:
    """Writes control characters as Python does, for example `\\x1b`; newlines and tabs stay."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def to_one_line(text: str) -> str:
    """The text in one line: control characters are shown, and white space of any kind is one space."""
    return " ".join(show_controls(text).split())


def to_plain_text(meaning: str) -> str:
    """A description without the markup of Markdown, for the terminal."""
    return re.sub(r"\[([^\]]+)\]\((http[^)]+)\)", r"\1 (\2)", meaning).replace("`", "")


class Output:
    """stdout or stderr. After an error of writing, everything goes to the null device, also what libraries write to its
    descriptor. What this class does not define is that of the stream."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.is_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self.attempt(self.stream.flush)

    def attempt(self, send: Callable[[], Any]) -> None:
        try:
            send()
        except OSError as error:
            self.is_lost = True
            with contextlib.suppress(OSError, ValueError):  # a stream in memory has no descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if error.errno not in CLOSED_ERRNOS and self.stream is sys.__stdout__:
                print(f"stdout cannot be written ({error.strerror}); this run goes on without it", file=sys.stderr)


class PlainOutput:
    """An Output in whose text control characters are shown. Colors are left out: libraries write them, but a text may
    hold them as well. What this class does not define is that of the Output.

    Args:
        has_bars: progress bars are written to it too. They begin with a carriage return.
    """

    def __init__(self, output: Output, has_bars: bool = False):
        self.output = output
        self.has_bars = has_bars

    def __getattr__(self, name: str) -> Any:
        return getattr(self.output, name)

    def write(self, text: str) -> int:
        move = BAR_MOVE.match(text) if self.has_bars else None
        start = move[0] if move else ""
        self.output.write(start + show_controls(COLOR.sub("", text[len(start) :])))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


class PlainConsole(Console):
    """A console with rich's own styles alone: control characters of the text are shown."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(show_controls(segment.text), segment.style)

    def find_file(self) -> TextIO:
        file = Console.file.fget(self)
        return file.output if isinstance(file, PlainOutput) else file  # which would leave out the styles

    file = property(find_file, Console.file.fset)


def open_console() -> PlainConsole:
    # No markup: a run folder may be called [a].
    return PlainConsole(highlight=False, markup=False, width=None if sys.stdout.isatty() else LOG_WIDTH)


def protect_output() -> None:
    """Replaces stdout and stderr by a PlainOutput each, also where they were closed when the program started."""
    for descriptor in STANDARD_DESCRIPTORS:
        take_descriptor(descriptor)
    if not isinstance(sys.stdout, PlainOutput):
        sys.stdout = PlainOutput(Output(accept_any_text(sys.stdout)))
    if not isinstance(sys.stderr, PlainOutput):
        sys.stderr = PlainOutput(Output(accept_any_text(sys.stderr)), has_bars=True)


def take_descriptor(number: int) -> None:
    """Opens the null device where the program was started with a closed descriptor: the next file that is opened would
    get its number, and everything that is printed."""
    try:
        os.fstat(number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number


def accept_any_text(stream: TextIO | None) -> TextIO:
    """Lets a stream write what its encoding, such as ASCII, cannot: as Python writes it, for example `\\xe9`."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open as long as the process)
    if hasattr(stream, "reconfigure"):
        with contextlib.suppress(OSError):  # what was written before may have no reader any more
            stream.reconfigure(errors="backslashreplace")
    return stream


def is_lost(stream: TextIO) -> bool:
    """Whether nobody reads what is written to stdout or stderr any more."""
    return getattr(stream, "is_lost", False)
