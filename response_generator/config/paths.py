"""Turns paths such as `~/runs/$USER/a` into absolute paths, so that messages and records name the file that is used."""

import os
import re

from response_generator.config import strict_json

MAX_NAME_BYTES = 255  # limit of Linux file systems
MAX_PATH_BYTES = 3800  # Linux allows 4095; the rest is for the files that a run writes inside the folder


def resolve_path(written: str) -> str:
    """Returns the absolute path: expands `~` and environment variables, and resolves it against the working directory.

    Symbolic links are not followed.

    Raises:
        ValueError: when the path is blank, names an unknown user or variable, is too long, or is not UTF-8.
    """
    absolute = os.path.abspath(expand_path(written))
    check_text(absolute)
    return absolute


def expand_path(written: str) -> str:
    """Expands `~` and environment variables. Raises ValueError like `resolve_path`."""
    if not written.strip():
        raise ValueError("it is blank")
    if "\0" in written:
        raise ValueError("a path cannot contain the character U+0000")
    expanded = os.path.expandvars(os.path.expanduser(written))
    if expanded.startswith("~") and not os.path.lexists(expanded):
        raise ValueError(f"there is no user {expanded.partition('/')[0][1:]!r}; write the full path")
    check_text(expanded)
    check_length(expanded)
    unset = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unset and not os.path.lexists(expanded):
        raise ValueError(f"the environment variable {unset[0]} is not set")
    return expanded


def check_text(path: str) -> None:
    if strict_json.describe_lone_surrogate(path):  # Python represents a byte that is not UTF-8 as a lone surrogate
        raise ValueError(f"{path!r} is not UTF-8, so it cannot be recorded; rename it, or name another path")


def check_length(path: str) -> None:
    longest = max(len(os.fsencode(name)) for name in path.split("/"))
    if longest > MAX_NAME_BYTES:
        raise ValueError(f"a name in it has {longest} bytes; allowed: up to {MAX_NAME_BYTES}")
    if len(os.fsencode(os.path.abspath(path))) > MAX_PATH_BYTES:
        raise ValueError(f"the path has too many bytes; allowed: up to {MAX_PATH_BYTES} bytes")
