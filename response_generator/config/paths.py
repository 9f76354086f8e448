"""Paths as people write them, `~/runs/$USER/a`, made whole once: what the program opens is what it says and records."""

import os
import re

from response_generator.config import strict_json

MAX_NAME_BYTES = 255  # of Linux's file systems
MAX_PATH_BYTES = 3800  # Linux takes 4095; a run writes files and folders below it


def resolve_path(written: str) -> str:
    """The absolute path of what is written: home folder and environment variables put in, relative to where the
    command runs. Links stay as they are.

    Raises:
        ValueError: when it is blank, names an unknown user or variable, is longer than a path can be, or not UTF-8.
    """
    whole = os.path.abspath(expand_path(written))
    check_text(whole)
    return whole


def expand_path(written: str) -> str:
    """Puts home folder and environment variables in; see `resolve_path` for what is raised."""
    if not written.strip():
        raise ValueError("it is blank")
    if "\0" in written:
        raise ValueError("no path holds the character U+0000")
    expanded = os.path.expandvars(os.path.expanduser(written))
    if expanded.startswith("~") and not os.path.lexists(expanded):
        raise ValueError(f"there is no user {expanded.partition('/')[0][1:]!r}; write the whole path")
    check_text(expanded)
    check_length(expanded)
    unset = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unset and not os.path.lexists(expanded):
        raise ValueError(f"the environment variable {unset[0]} is not set")
    return expanded


def check_text(path: str) -> None:
    if strict_json.describe_lone_surrogate(path):  # Python's spelling of a byte that is not UTF-8
        raise ValueError(f"{path!r} is not UTF-8, as every file of a run is; rename it, or name another path")


def check_length(path: str) -> None:
    longest = max(len(os.fsencode(name)) for name in path.split("/"))
    if longest > MAX_NAME_BYTES:
        raise ValueError(f"a name in it has {longest} bytes; allowed: up to {MAX_NAME_BYTES}")
    if len(os.fsencode(os.path.abspath(path))) > MAX_PATH_BYTES:
        raise ValueError(f"allowed: up to {MAX_PATH_BYTES} bytes")
