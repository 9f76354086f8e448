"""Words of a text. Chinese is written without spaces, so there each character counts as a word. Imports no torch."""

import re

# Chinese characters with their extensions and compatibility forms, as part of a character class.
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
WORD = re.compile(rf"[{HAN}]|[^\s{HAN}]+")
TOKEN = re.compile(rf"[{HAN}]|[^\W{HAN}]+|[^\w\s]")
# Between two letters of one word; a Chinese character is a word of its own.
NOT_AFTER_LETTER, NOT_BEFORE_LETTER = rf"(?<![^\W{HAN}])", rf"(?![^\W{HAN}])"


def list_words(text: str) -> list[str]:
    """What stands between whitespace; of that, each Chinese character."""
    return WORD.findall(text)


def list_tokens(text: str) -> list[str]:
    """Words without punctuation, and punctuation marks."""
    return TOKEN.findall(text)


def list_starts(text: str) -> list[str]:
    """The text cut off after its first word, after its second, and so on; the last one is the whole text, also where
    that has no word."""
    return [text[: word.end()] for word in WORD.finditer(text)][:-1] + [text]


def compile_words(words: list[str]) -> re.Pattern[str]:
    """Finds whole words and phrases, whatever their case and the spaces within a phrase."""
    return re.compile("|".join(map(to_pattern, words)), re.IGNORECASE)


def to_pattern(phrase: str) -> str:
    words = phrase.split()
    before = "" if re.match(rf"[{HAN}]", words[0]) else NOT_AFTER_LETTER
    after = "" if re.search(rf"[{HAN}]$", words[-1]) else NOT_BEFORE_LETTER
    return before + r"\s+".join(map(re.escape, words)) + after
