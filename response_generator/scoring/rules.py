"""When a reply is complete, and not cut off."""

SENTENCE_ENDS = (".", "!", "?")
CLOSING = " \n\"'\u201d\u2019\u00bb"  # quotes and spaces that may follow a sentence's end


def is_complete(response: str) -> bool:
    """Ends a sentence: `.`, `!` or `?`, closing quotes and spaces after it allowed."""
    return response.rstrip(CLOSING).endswith(SENTENCE_ENDS)
