"""distinct-n (Li et al. 2016): different n-grams divided by all n-grams, in equal amounts of text.

More text repeats more of its words, so models are compared at the number of n-grams of the one that wrote fewest, m.
The value of another is what to expect of so many of its replies, drawn at random without replacement, as have m n-grams
on average: rarefaction by whole samples (Gotelli and Colwell 2001; Colwell, Mao and Chang 2004). It has a closed form.
Whole replies are drawn, not n-grams (Hurlbert 1971), because words repeat most within a reply. A text has one reply to
each dialogue, as the gold replies have; a model with several samples, targets or training runs has the mean over its
texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from response_generator.evaluation.predictions_file import Prediction
from response_generator.evaluation.statistics.intervals import Jackknifed
from response_generator.scoring.words import list_tokens

ORDERS = {"distinct_1": 1, "distinct_2": 2}


@dataclass(frozen=True)
class Text:
    """The n-grams of one reply to each prompt.

    ngrams: of each reply, its different n-grams as numbers. lengths: number of all n-grams of each reply, (prompts,).
    spread: in how many replies each n-gram occurs, (different n-grams,).
    """

    ngrams: list[np.ndarray]
    lengths: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, replies: Sequence[str], n: int) -> "Text":
        """Tokens are words, Chinese characters and punctuation marks, in lower case; no n-gram spans two replies."""
        numbers: dict[str | tuple[str, str], int] = {}
        ngrams, lengths = [], []
        for reply in replies:
            tokens = list_tokens(reply.lower())
            found = list(pairwise(tokens)) if n == 2 else tokens
            lengths.append(len(found))
            ngrams.append(np.array([numbers.setdefault(each, len(numbers)) for each in dict.fromkeys(found)], int))
        return cls(ngrams, np.array(lengths), np.bincount(np.concatenate(ngrams), minlength=len(numbers)))

    @property
    def size(self) -> int:
        return int(self.lengths.sum())

    @property
    def sizes_without(self) -> np.ndarray:
        """Number of n-grams without the reply to each prompt in turn, (prompts,)."""
        return self.size - self.lengths

    def distinct(self, size: int) -> float:
        """distinct-n in `size` n-grams."""
        found = 1 - miss_probabilities(self.spread.max(), len(self.lengths), size / self.size)
        return float(found[self.spread].sum() / size)

    def distinct_without(self, sizes: np.ndarray) -> np.ndarray:
        """The same without the reply to each prompt in turn, in `sizes` n-grams, (prompts,); nan where that is 0."""
        counts = np.bincount(self.spread)
        values = np.full(len(sizes), np.nan)
        for prompt in np.flatnonzero(sizes):
            share = sizes[prompt] / self.sizes_without[prompt]
            found = 1 - miss_probabilities(len(counts) - 1, len(sizes) - 1, share)
            own = self.spread[self.ngrams[prompt]]  # these occur in one reply less
            values[prompt] = (counts @ found + (found[own - 1] - found[own]).sum()) / sizes[prompt]
        return values


def miss_probabilities(most: int, replies: int, share: float) -> np.ndarray:
    """Probability that an n-gram that occurs in 0, 1, …, `most` of the replies is in none of those drawn.

    That is C(replies - spread, drawn) / C(replies, drawn) for a whole number of drawn replies. Otherwise one of the two
    nearest whole numbers is drawn, by chance, so that `share` is drawn on average.

    Args:
        share: of the replies that are drawn.
    """
    left = np.maximum(replies - np.arange(most), 1)

    def miss(drawn: float) -> np.ndarray:
        return np.concatenate([[1.0], np.cumprod(np.maximum(left - drawn, 0) / left)])

    fewer, chance_of_more = divmod(share * replies, 1)
    return (1 - chance_of_more) * miss(fewer) + chance_of_more * miss(fewer + 1)


def measure_distinct(runs: dict[str, list[list[Prediction]]], n: int) -> tuple[dict[str, Jackknifed], int]:
    """distinct-n of each model, and the number of n-grams at which they are compared. It is nan where a compared text
    has none, and prompts without which a text has none are left out of `leave_one_out`.

    Args:
        runs: the rows of each training run of each model, in the order of prompts, targets and samples.
    """
    texts = {model: [split_texts(run, n) for run in found] for model, found in runs.items()}
    everything = [text for found in texts.values() for run in found for text in run]
    size = min(text.size for text in everything)
    sizes = np.min([text.sizes_without for text in everything], axis=0)
    if size == 0:
        unknown = {model: Jackknifed(np.full(len(found), np.nan), np.array([])) for model, found in texts.items()}
        return unknown, size
    return {
        model: Jackknifed(
            np.array([np.mean([text.distinct(size) for text in run]) for run in found]),
            np.mean([text.distinct_without(sizes)[sizes > 0] for run in found for text in run], axis=0),
        )
        for model, found in texts.items()
    }, size


def split_texts(rows: list[Prediction], n: int) -> list[Text]:
    """The n-th replies to all dialogues are a text: one for each sample, and where every dialogue is asked for all
    labels, one for each target and sample. Replies with different targets would differ by what they were asked for."""
    replies: dict[int, list[str]] = {}
    for row in rows:
        replies.setdefault(row["index"], []).append(row["response"])
    return [Text.of(each, n) for each in zip(*replies.values(), strict=True)]
