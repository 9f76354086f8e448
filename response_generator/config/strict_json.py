"""Strict parsing of JSON from outside the program, with a readable message for every error."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from response_generator.errors import MAX_SHOWN_ERRORS, InputError

SURROGATES = re.compile("[\ud800-\udfff]")
MAX_NESTING = 100  # levels of brackets; valid files have fewer than ten


class JSONError(ValueError):
    """An error in a JSON text; the message does not name the file."""


def parse_json(text: str, allow_nan: bool = False) -> Any:
    """Parses one JSON value.

    Args:
        allow_nan: accept NaN and Infinity, which Python and pandas write although JSON does not allow them.

    Raises:
        JSONError: for broken JSON, repeated keys, integers with too many digits, or nesting beyond `MAX_NESTING`.
    """
    constants = {} if allow_nan else {"parse_constant": reject_constant}
    try:
        value = json.loads(text, object_pairs_hook=build_unique_object, **constants)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise JSONError(f"broken JSON at {place}: {error.msg}") from error
    except JSONError:
        raise
    except ValueError as error:  # Python limits the digits of an integer
        raise JSONError("holds an integer with more digits than Python reads (4300)") from error
    except RecursionError as error:
        raise JSONError(f"is nested more than {MAX_NESTING} brackets deep") from error
    if text.count("[") + text.count("{") > MAX_NESTING and measure_nesting(value) > MAX_NESTING:
        raise JSONError(f"is nested more than {MAX_NESTING} brackets deep")
    return value


def read_object(file: Path) -> dict[str, Any]:
    """Reads a JSON file that holds one object, with or without a byte order mark.

    Raises:
        InputError: when the file cannot be read or does not hold one JSON object.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise JSONError("is empty")
        value = parse_json(text)
    except JSONError as error:
        raise InputError(f"{file}: {error}") from error
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or an invalid file name
        raise InputError(f"{file}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: holds a {type(value).__name__}; needed: one JSON object")
    return value


def build_unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    json_object = dict(pairs)
    if len(json_object) < len(pairs):
        repeated = sorted(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        others = f" and {len(repeated) - MAX_SHOWN_ERRORS} more keys" if len(repeated) > MAX_SHOWN_ERRORS else ""
        raise JSONError(f"{', '.join(repeated[:MAX_SHOWN_ERRORS])}{others}: written twice; keep one")
    return json_object


def reject_constant(name: str):
    raise JSONError(f"{name} is not JSON; write a number")


def measure_nesting(value: Any) -> int:
    """Counts the levels of lists and objects in a value."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, (list, dict))]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def describe_lone_surrogate(text: str) -> str | None:
    """Describes the first lone surrogate in a text, which files and tokenizers cannot encode; None if there is none."""
    surrogate = SURROGATES.search(text)
    return f"U+{ord(surrogate[0]):04X}, which is half a character" if surrogate else None


def join_key(key: str, name: str) -> str:
    """Returns the path of `name` inside `key`. An empty name or one with a lone surrogate is shown as its repr."""
    shown = repr(name) if not name or describe_lone_surrogate(name) else name
    return f"{key}.{shown}" if key else shown


def find_unusable(value: Any, key: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Returns `(key path, message)` for every infinite number, lone surrogate and too deep value in parsed JSON."""
    if isinstance(value, (dict, list)) and depth == MAX_NESTING:
        return [(key, f"is nested more than {MAX_NESTING} brackets deep")]
    if isinstance(value, dict):
        parts = [(join_key(key, name), inner) for name, inner in value.items()]
        errors = [
            (join_key(key, name), f"holds {describe_lone_surrogate(name)}")
            for name in filter(describe_lone_surrogate, value)
        ]
    elif isinstance(value, list):
        parts, errors = [(f"{key}.{number}", inner) for number, inner in enumerate(value)], []
    elif isinstance(value, float) and not math.isfinite(value):
        return [(key, f"got {value}; allowed: a finite number")]
    elif isinstance(value, str) and describe_lone_surrogate(value):
        return [(key, f"holds {describe_lone_surrogate(value)}; write the text again")]
    else:
        return []
    return errors + [error for name, inner in parts for error in find_unusable(inner, name, depth + 1)]
