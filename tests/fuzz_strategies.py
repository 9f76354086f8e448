"""Random values for the fuzz tests: JSON that nobody means, and edits that put it into what is valid."""

import copy
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from response_generator.config import library_keywords
from response_generator.config.validation import KEYWORD_SECTIONS, get_section_class

fuzzed = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,  # the same examples on every machine
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
HALF_A_CHARACTER = "\ud83d"
ODD_TEXTS = [
    "",
    " ",
    "\0",
    HALF_A_CHARACTER,
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


def nested(depth: int) -> list:
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
) | st.sampled_from([99, 101, 900]).map(nested)
OF_KIND = {
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
    """What is done at a place: "put" a value, "delete" what is there, "double" it, or "rename" its key."""

    path: tuple
    what: str
    value: Any = None


def edited(document: Any, edits: list[Edit]) -> Any:
    """A copy of `document` with the edits whose place it still has."""
    document = copy.deepcopy(document)
    for edit in edits:
        *parents, key = edit.path
        part = document
        for name in parents:
            if isinstance(part, dict) and edit.what == "put":
                part.setdefault(name, {})
            part = part[name] if holds(part, name) else None
        if edit.what == "put" and (isinstance(part, dict) or holds(part, key)):
            part[key] = edit.value
        elif holds(part, key):
            rearrange(part, key, edit.what)
    return document


def holds(part: Any, key: Any) -> bool:
    if isinstance(part, list):
        return isinstance(key, int) and key < len(part)
    return isinstance(part, dict) and key in part


def rearrange(part: Any, key: Any, what: str) -> None:
    value = part.pop(key)
    if isinstance(part, list):
        part[key:key] = {"delete": [], "double": [value, value]}.get(what, [[value]])
    else:
        part |= {"delete": {}, "double": {key: [value, value]}}.get(what, {key.upper(): value})


def places(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of everything inside a document."""
    parts = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in parts:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def edits_of(document: Any, values: st.SearchStrategy = JSON) -> st.SearchStrategy[list[Edit]]:
    paths = sorted(places(document), key=str)
    anywhere = st.sampled_from(paths) | st.builds(lambda path, key: (*path[:-1], key), st.sampled_from(paths), TEXTS)
    put = st.builds(Edit, anywhere, st.just("put"), values)
    other = st.builds(Edit, st.sampled_from(paths), st.sampled_from(["delete", "double", "rename"]))
    return st.lists(put | other, min_size=1, max_size=3)


def fields_of(model: type[BaseModel], path: tuple = ()) -> Iterator[tuple[tuple, list[str]]]:
    """Path and JSON kinds of every key that an args file may hold; no kinds: any."""
    for key, field in model.model_fields.items():
        section = get_section_class(field)
        yield (*path, key), [] if section else library_keywords.json_types_of_hint(field.annotation)
        if section is not None:
            yield from fields_of(section, (*path, key))


def keywords_of(model: type[BaseModel]) -> Iterator[tuple[tuple, list[str]]]:
    """The same of the sections whose keys are a library's."""
    for section in KEYWORD_SECTIONS:
        if section in model.model_fields:
            yield from (((section, key), kinds) for key, kinds in library_keywords.accepted_json_types(section).items())


def edits_of_kinds(fields: dict[tuple, list[str]]) -> list[st.SearchStrategy[Edit]]:
    """Values of the right kind, mostly: others are refused before anything else is asked."""
    paths = st.sampled_from(list(fields))
    unknown = st.builds(lambda path, key: (*path[:-1], key), paths, TEXTS)
    edits = [st.builds(Edit, paths | unknown, st.just("put"), JSON), st.builds(Edit, paths, st.just("delete"))]
    for kind, values in OF_KIND.items():
        of_kind = [path for path, kinds in fields.items() if kind in (kinds or kind)]
        edits += [st.builds(Edit, st.sampled_from(of_kind), st.just("put"), values)] if of_kind else []
    return edits


def edits_of_args(model: type[BaseModel]) -> st.SearchStrategy[list[Edit]]:
    edits = edits_of_kinds(dict(fields_of(model))) + edits_of_kinds(dict(keywords_of(model)))
    return st.lists(st.one_of(edits), max_size=4)


def assignments_of(model: type[BaseModel]) -> st.SearchStrategy[list[str]]:
    """What may stand behind --set."""
    letters = st.text(string.ascii_lowercase + '.=[]{}",:0123456789eE+-\ud83d\0 ', max_size=12)
    fields = st.sampled_from([".".join(path) for path, _ in [*fields_of(model), *keywords_of(model)]])
    values = (
        TEXTS
        | letters
        | st.sampled_from(["[" * 400 + "]" * 400, "[" * 90_000, "9" * 5000, "NaN", "1e999", "-Infinity"])
    )
    whole = st.builds("{}={}".format, fields | letters | st.sampled_from(["a." * 1100 + "a"]), values)
    return st.just([]) | st.lists(whole | letters, max_size=2)


@dataclass(frozen=True)
class Damage:
    """What happens to a file at a share of its length: it is cut there, or bytes are put in or written over it."""

    what: str
    share: float
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
        at = round(damage.share * len(content))
        rest = {"cut": b"", "insert": content[at:], "overwrite": content[at + len(damage.content) :]}[damage.what]
        content = content[:at] + (b"" if damage.what == "cut" else damage.content) + rest
    return content
