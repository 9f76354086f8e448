"""Rules that score a reply without a model."""

import re

SENTENCE_END_MARKS = (".", "!", "?")
CLOSING_CHARACTERS = " \n\"'\u201d\u2019\u00bb"  # quotes and spaces that may follow the end mark


def ends_with_punctuation(response: str) -> bool:
    """Returns whether a reply ends with `.`, `!` or `?`, ignoring closing quotes and spaces after it."""
    return response.rstrip(CLOSING_CHARACTERS).endswith(SENTENCE_END_MARKS)


def list_starts(response: str) -> list[str]:
    """The reply cut off after its first word, after its second, and so on; the last one is the whole reply, also where
    that has no word. Words are what stands between whitespace."""
    return [response[: word.end()] for word in re.finditer(r"\S+", response)][:-1] + [response]
