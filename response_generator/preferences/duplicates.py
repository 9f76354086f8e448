"""Finds pairs that repeat an earlier one, exactly or nearly."""

from collections.abc import Sequence

from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from response_generator.data.datasets import Pair
from response_generator.data.pair_text import get_prompt_text, get_reply_text
from response_generator.scoring.words import list_words

WORDS_PER_SEQUENCE = 3
MIN_SHARED = 0.8
ROWS_AT_ONCE = 1000  # of the comparison of all rows with all rows


def get_texts(pair: Pair) -> tuple[str, str, str]:
    return get_prompt_text(pair), get_reply_text(pair.chosen), get_reply_text(pair.rejected)


def find_exact_duplicates(pairs: Sequence[Pair]) -> set[int]:
    """The places of pairs whose prompt, chosen and rejected reply are those of an earlier pair."""
    seen: set[tuple[str, str, str]] = set()
    duplicates = set()
    for place, pair in enumerate(pairs):
        texts = get_texts(pair)
        if texts in seen:
            duplicates.add(place)
        seen.add(texts)
    return duplicates


def find_near_duplicates(pairs: Sequence[Pair]) -> set[int]:
    """The places of pairs that are exact or near duplicates of an earlier pair that is not a duplicate itself.

    Near duplicates: the prompts, the chosen and the rejected replies each share at least MIN_SHARED of their sequences
    of WORDS_PER_SEQUENCE words (shared sequences divided by all sequences of both).
    """
    if not pairs:
        return set()
    prompts, chosen, rejected = (count_word_sequences(texts) for texts in zip(*map(get_texts, pairs), strict=True))
    duplicates: set[int] = set()
    for start in range(0, len(pairs), ROWS_AT_ONCE):
        shared = (chosen[start : start + ROWS_AT_ONCE] @ chosen.T).tocsr()
        for place in range(start, min(start + ROWS_AT_ONCE, len(pairs))):
            similar = shared[place - start].indices  # replies that share at least one sequence
            earlier = sorted(other for other in similar if other < place and other not in duplicates)
            if any(all(are_similar(part, place, other) for part in (chosen, rejected, prompts)) for other in earlier):
                duplicates.add(place)
    return duplicates


def count_word_sequences(texts: Sequence[str]) -> csr_matrix:
    """1 where a text contains a sequence, (texts, sequences)."""
    return CountVectorizer(analyzer=list_word_sequences, binary=True).fit_transform(texts)


def list_word_sequences(text: str, length: int = WORDS_PER_SEQUENCE) -> list[tuple[str, ...]]:
    """All sequences of `length` words, in lower case; for a shorter text the text itself."""
    words = list_words(text.lower())
    count = max(1, len(words) - length + 1)
    return [tuple(words[start : start + length]) for start in range(count)]


def are_similar(part: csr_matrix, one: int, other: int) -> bool:
    first, second = set(part[one].indices), set(part[other].indices)
    return len(first & second) >= MIN_SHARED * len(first | second)
