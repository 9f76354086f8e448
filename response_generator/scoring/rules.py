"""Rules that score a reply without a model."""

SENTENCE_END_MARKS = (".", "!", "?", "。", "！", "？", "…")
CLOSING_CHARACTERS = " \n\"'\u201d\u2019\u00bb」』"  # quotes and spaces that may follow the end mark


def ends_with_punctuation(response: str) -> bool:
    """Returns whether a reply ends with an end mark of English or Chinese, ignoring closing quotes and spaces after
    it."""
    return response.rstrip(CLOSING_CHARACTERS).endswith(SENTENCE_END_MARKS)
