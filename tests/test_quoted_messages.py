"""Every message that docs/faq.md quotes is one that the program prints."""

import ast
import re
from functools import cache

import pytest
from conftest import ROOT
from documents import BLOCKS

MIN_CONSTANT_CHARACTERS = 12  # of a message; with fewer, its pattern would match nearly everything
MARKUP = re.compile(r"\[/?(?:yellow|bold)\]")  # of rich, which prints it as color
QUOTES = [block.text.strip() for block in BLOCKS if block.file.name == "faq.md" and block.language == "text"]


@cache
def list_message_patterns() -> list[re.Pattern]:
    """A pattern for each string in the source, in which anything may stand in place of a value."""
    patterns = []
    for file in (ROOT / "response_generator").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            values = [getattr(part, "value", None) for part in parts]
            words = [MARKUP.sub("", value) if isinstance(value, str) else None for value in values]
            if sum(len(word or "") for word in words) >= MIN_CONSTANT_CHARACTERS:
                patterns.append(re.compile("".join(".+" if word is None else re.escape(word) for word in words)))
    return patterns


def is_printed(message: str) -> bool:
    return any(pattern.fullmatch(message) for pattern in list_message_patterns())


@pytest.mark.parametrize("message", QUOTES, ids=lambda message: message[:60])
def test_every_quoted_message_is_in_the_source(message):
    assert is_printed(message)


def test_another_message_is_not():
    assert len(QUOTES) > 15
    assert not is_printed("the adapter is the same as before training: no step was taken")
    assert not is_printed("checkpoint-40: writing it was interrupted; it is used")
