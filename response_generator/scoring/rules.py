"""When a reply is complete, and not cut off."""

SENTENCE_END_MARKS = (".", "!", "?")
CLOSING_CHARACTERS = " \n\"'\u201d\u2019\u00bb"  # quotes and spaces that may follow a sentence's end


def ends_with_punctuation(response: str) -> bool:
    """Ends a sentence: `.`, `!` or `?`, closing quotes and spaces after it allowed."""
    return response.rstrip(CLOSING_CHARACTERS).endswith(SENTENCE_END_MARKS)
