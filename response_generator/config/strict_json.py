"""JSON that somebody else wrote: parsed strictly, and whatever is wrong with it is told in words."""

import json
import math
import re
from pathlib import Path
from typing import Any

from response_generator.errors import InputError

SURROGATES = re.compile("[\ud800-\udfff]")
MAX_NESTING = 100  # brackets; nothing that is read here needs a tenth of it


class JSONError(ValueError):
    """What is wrong with a text, without its place."""


def parse_json(text: str, allow_nan: bool = False) -> Any:
    """Parses one JSON value.

    Args:
        allow_nan: take NaN and Infinity, which Python's and pandas' writers produce and JSON does not know.

    Raises:
        JSONError: for broken JSON, repeated keys, numbers too long to read, and more than `MAX_NESTING` brackets.
    """
    constants = {} if allow_nan else {"parse_constant": reject_constant}
    try:
        value = json.loads(text, object_pairs_hook=build_unique_object, **constants)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise JSONError(f"broken JSON at {place}: {error.msg}") from error
    except JSONError:
        raise
    except ValueError as error:  # Python's limit for the digits of an integer
        raise JSONError("holds an integer of more digits than Python reads (4300)") from error
    except RecursionError as error:
        raise JSONError(f"is nested more than {MAX_NESTING} brackets deep") from error
    if text.count("[") + text.count("{") > MAX_NESTING and nesting_depth(value) > MAX_NESTING:
        raise JSONError(f"is nested more than {MAX_NESTING} brackets deep")
    return value


def read_object(file: Path) -> dict[str, Any]:
    """Reads the one object of a JSON file, with or without a byte order mark.

    Raises:
        InputError: when it cannot be read, or holds anything else.
    """
    try:
        value = parse_json(file.read_text(encoding="utf-8-sig"))
    except JSONError as error:
        raise InputError(f"{file}: {error}") from error
    except (OSError, ValueError) as error:  # not UTF-8, or a name that no file can have
        raise InputError(f"{file}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: holds a {type(value).__name__}; needed: one JSON object")
    return value


def build_unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        raise JSONError(f"{', '.join(repeated)}: written twice; keep one")
    return found


def reject_constant(name: str):
    raise JSONError(f"{name} is not JSON; write a number")


def nesting_depth(value: Any) -> int:
    """How many brackets deep a value is nested."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, (list, dict))]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def describe_lone_surrogate(text: str) -> str | None:
    """The first half of a character without its other half, which no file and no tokenizer takes; else None."""
    half = SURROGATES.search(text)
    return f"U+{ord(half[0]):04X}, which is half a character" if half else None


def join_key(key: str, name: str) -> str:
    """The path of a name below `key`; one that could not be read, or written, as it is comes as Python quotes it."""
    shown = repr(name) if not name or describe_lone_surrogate(name) else name
    return f"{key}.{shown}" if key else shown


def find_unusable(value: Any, key: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """`(key path, what is wrong)` of every number and text in a parsed value that nothing here can use, and of what
    lies too deep in it."""
    if isinstance(value, (dict, list)) and depth == MAX_NESTING:
        return [(key, f"is nested more than {MAX_NESTING} brackets deep")]
    if isinstance(value, dict):
        parts = [(join_key(key, name), inner) for name, inner in value.items()]
        found = [
            (join_key(key, half), f"holds {describe_lone_surrogate(half)}")
            for half in filter(describe_lone_surrogate, value)
        ]
    elif isinstance(value, list):
        parts, found = [(f"{key}.{number}", inner) for number, inner in enumerate(value)], []
    elif isinstance(value, float) and not math.isfinite(value):
        return [(key, f"got {value}; allowed: a finite number")]
    elif isinstance(value, str) and describe_lone_surrogate(value):
        return [(key, f"holds {describe_lone_surrogate(value)}; write the text anew")]
    else:
        return []
    return found + [message for name, inner in parts for message in find_unusable(inner, name, depth + 1)]
