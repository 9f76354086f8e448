"""Strategies for the fuzz tests: unusual JSON values, edits that put them into valid documents, and damaged bytes."""

import copy
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from response_generator.config.library import library_keywords
from response_generator.config.validation import KEYWORD_SECTIONS, get_section_class

fuzzed = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,  # the same examples on every machine
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONE_SURROGATE = "\ud83d"
ODD_TEXTS = [
    "",
    " ",
    "\0",
    LONE_SURROGATE,
    "\ufeff",
    "\u2028",
    "~",
    "~nobody",
    "~/a",
    "$HOME/a",
    "$UNSET",
    "${X",
    "$ODD",
]
ODD_TEXTS += [".", "..", "/", "a/b@c", "@", "a@", "none", "null", "best", "epoch", "steps", "x" * 300, "ab/" * 2000]
ODD_TEXTS += ["<|im_end|>", "<|im_end|> <|im_end|>", "<|im_start|>user ", "[EMOTION] fear [/EMOTION] Who ?", "{{ a }}"]
ODD_INTEGERS = [-1, 2**31, 2**32, 2**63, -(2**63) - 1, 10**400, -(10**400)]
ODD_FLOATS = [-0.0, 1e-320, 1e300, float("inf"), float("-inf"), float("nan")]


def listing(folder: Path) -> list[str]:
    return sorted(map(str, folder.rglob("*")))


def nest_lists(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


TEXTS = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
INTEGERS = st.integers(0, 9) | st.sampled_from(ODD_INTEGERS) | st.integers()
FLOATS = st.floats(0, 1) | st.sampled_from(ODD_FLOATS) | st.floats()
SCALARS = st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
) | st.sampled_from([99, 101, 900]).map(nest_lists)
VALUES_OF_TYPE = {
    "boolean": st.booleans(),
    "integer": INTEGERS,
    "number": FLOATS | INTEGERS,
    "string": TEXTS,
    "list": st.lists(JSON, max_size=3),
    "object": st.dictionaries(TEXTS, JSON, max_size=3),
    "null": st.none(),
}


@dataclass(frozen=True)
class Edit:
    """A change at `path`: "put" a value, "delete" the value, "double" it (a list of it twice) or "rename" its key."""

    path: tuple
    action: str
    value: Any = None


def edited(document: Any, edits: list[Edit]) -> Any:
    """Returns a copy of `document` with the edits applied; edits whose path no longer exists are skipped."""
    document = copy.deepcopy(document)
    for edit in edits:
        *parents, key = edit.path
        part = document
        for name in parents:
            if isinstance(part, dict) and edit.action == "put":
                part.setdefault(name, {})
            part = part[name] if contains(part, name) else None
        if edit.action == "put" and (isinstance(part, dict) or contains(part, key)):
            part[key] = edit.value
        elif contains(part, key):
            change_in_place(part, key, edit.action)
    return document


def contains(part: Any, key: Any) -> bool:
    if isinstance(part, list):
        return isinstance(key, int) and key < len(part)
    return isinstance(part, dict) and key in part


def change_in_place(part: Any, key: Any, action: str) -> None:
    value = part.pop(key)
    if isinstance(part, list):
        part[key:key] = {"delete": [], "double": [value, value]}.get(action, [[value]])
    else:
        part |= {"delete": {}, "double": {key: [value, value]}}.get(action, {str(key).upper(): value})


def list_paths(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yields the path of every value inside a document."""
    parts = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in parts:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from list_paths(value, (*path, key))


def edits_of(document: Any, values: st.SearchStrategy = JSON) -> st.SearchStrategy[list[Edit]]:
    paths = st.sampled_from(sorted(list_paths(document), key=str))
    new_paths = st.builds(lambda path, key: (*path[:-1], key), paths, TEXTS)
    put = st.builds(Edit, paths | new_paths, st.just("put"), values)
    other = st.builds(Edit, paths, st.sampled_from(["delete", "double", "rename"]))
    return st.lists(put | other, min_size=1, max_size=3)


def list_fields(model: type[BaseModel], path: tuple = ()) -> Iterator[tuple[tuple, list[str]]]:
    """Yields path and JSON types of every key of an args file; an empty list of types means any type."""
    for key, field in model.model_fields.items():
        section = get_section_class(field)
        yield (*path, key), [] if section else list_json_types(field.annotation)
        if section is not None:
            yield from list_fields(section, (*path, key))


def list_json_types(annotation: Any) -> list[str]:
    schema = TypeAdapter(annotation).json_schema()
    types = {part.get("type", "") for part in schema.get("anyOf", [schema])}
    return [] if "" in types else ["list" if each == "array" else each for each in sorted(types)]


def list_keywords(model: type[BaseModel]) -> Iterator[tuple[tuple, list[str]]]:
    """Yields path and JSON types of every key in the sections whose keys are keywords of a library."""
    for section in KEYWORD_SECTIONS:
        if section in model.model_fields:
            yield from (((section, key), types) for key, types in library_keywords.accepted_json_types(section).items())


def edits_of_kinds(fields: dict[tuple, list[str]]) -> list[st.SearchStrategy[Edit]]:
    """Returns edits that mostly put values of the accepted type: other types are refused by the first check."""
    paths = st.sampled_from(list(fields))
    unknown = st.builds(lambda path, key: (*path[:-1], key), paths, TEXTS)
    edits = [st.builds(Edit, paths | unknown, st.just("put"), JSON), st.builds(Edit, paths, st.just("delete"))]
    for json_type, values in VALUES_OF_TYPE.items():
        accepting = [path for path, types in fields.items() if not types or json_type in types]
        edits += [st.builds(Edit, st.sampled_from(accepting), st.just("put"), values)] if accepting else []
    return edits


def edits_of_args(model: type[BaseModel]) -> st.SearchStrategy[list[Edit]]:
    edits = edits_of_kinds(dict(list_fields(model))) + edits_of_kinds(dict(list_keywords(model)))
    return st.lists(st.one_of(edits), max_size=4)


def assignments_of(model: type[BaseModel]) -> st.SearchStrategy[list[str]]:
    """Returns lists of values for the option --set."""
    letters = st.text(string.ascii_lowercase + '.=[]{}",:0123456789eE+-\ud83d\0 ', max_size=12)
    fields = st.sampled_from([".".join(path) for path, _ in [*list_fields(model), *list_keywords(model)]])
    values = (
        TEXTS
        | letters
        | st.sampled_from(["[" * 400 + "]" * 400, "[" * 90_000, "9" * 5000, "NaN", "1e999", "-Infinity"])
    )
    assignments = st.builds("{}={}".format, fields | letters | st.sampled_from(["a." * 1100 + "a"]), values)
    return st.just([]) | st.lists(assignments | letters, max_size=2)


@dataclass(frozen=True)
class Damage:
    """Damage to a file at a fraction of its length: "cut" it there, or "insert" or "overwrite" bytes."""

    action: str
    fraction: float
    content: bytes


INSERTED = [
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b",",
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b"NaN",
    b"1e999",
]
INSERTED += [b'"prompt": 1, ', b"\\ud83d", b"\xed\xa0\xbd", b"\xe2\x80\xa8", b"\xc2\xa0\n", b"[" * 20_000]
INSERTED += [b"9" * 5000]
DAMAGE = st.builds(
    Damage,
    st.sampled_from(["cut", "insert", "overwrite"]),
    st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1),
    st.sampled_from(INSERTED) | st.binary(max_size=4),
)


def damaged(content: bytes, damages: list[Damage]) -> bytes:
    for damage in damages:
        start = round(damage.fraction * len(content))
        if damage.action == "cut":
            content = content[:start]
            continue
        end = start + (len(damage.content) if damage.action == "overwrite" else 0)
        content = content[:start] + damage.content + content[end:]
    return content
