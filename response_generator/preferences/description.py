"""Describes preference pairs in numbers: margins, scores, fit, lengths, cut-off replies, duplicates, target emotions
and replies that name them."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from response_generator.data.datasets import Pair
from response_generator.data.pair_text import find_target_emotion, get_prompt_text, get_reply_text
from response_generator.errors import raise_row_errors
from response_generator.labels import Labels
from response_generator.preferences.duplicates import find_exact_duplicates, find_near_duplicates
from response_generator.scoring.emotion_words import names_emotion, read_emotion_words
from response_generator.scoring.rules import ends_with_punctuation

QUANTILES = (5, 25, 75, 95)
UNKNOWN = "unknown"


def describe_pairs(pairs: Sequence[Pair], required_markers: Sequence[str], labels: Labels) -> dict[str, float]:
    """The metrics by name. Lengths are in characters; `sd` divides by the number of rows, as numpy does. Margins and
    scores are those of the pairs that have both scores."""
    chosen, rejected = ([get_reply_text(side) for side in sides] for sides in get_sides(pairs))
    metrics: dict[str, float] = {"pairs": len(pairs), "prompts": len({get_prompt_text(pair) for pair in pairs})}
    margins = get_margins(pairs)
    if len(margins):
        metrics |= summarize("margin", margins)
        metrics["margin/share_not_positive"] = float(np.mean(margins <= 0))
        metrics |= summarize("chosen_score", [pair.chosen_score for pair in pairs if pair.margin is not None])
        metrics |= summarize("rejected_score", [pair.rejected_score for pair in pairs if pair.margin is not None])
    metrics |= describe_fit(pairs)
    metrics |= summarize("chosen_characters", [len(text) for text in chosen])
    metrics |= summarize("rejected_characters", [len(text) for text in rejected])
    metrics["chosen_cut_off"] = float(np.mean([not ends_with_punctuation(text) for text in chosen]))
    metrics["rejected_cut_off"] = float(np.mean([not ends_with_punctuation(text) for text in rejected]))
    metrics |= describe_length_bias(pairs)
    metrics |= describe_naming(pairs, labels)
    exact, near = find_exact_duplicates(pairs), find_near_duplicates(pairs)
    metrics |= {"exact_duplicates": len(exact), "near_duplicates": len(near - exact)}
    metrics["same_replies"] = sum(one == other for one, other in zip(chosen, rejected, strict=True))
    metrics |= dict(count_targets(pairs, labels))
    metrics |= dict(count_missing_markers(pairs, required_markers))
    return metrics


def check_scores(pairs: Sequence[Pair]) -> None:
    """Raises InputError when some pairs have both scores and others do not."""
    without = [pair for pair in pairs if pair.margin is None]
    if len(without) < len(pairs):
        raise_row_errors(
            "dataset",
            [
                f"dataset, row {pair.index}: has no chosen_score and rejected_score, as other rows have; add them, or "
                f"remove both columns"
                for pair in without
            ],
        )


def get_sides(pairs: Sequence[Pair]) -> tuple[list, list]:
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def get_margins(pairs: Sequence[Pair]) -> np.ndarray:
    """The margins of pairs with scores, (pairs,)."""
    return np.array([pair.margin for pair in pairs if pair.margin is not None], dtype=float)


def summarize(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median, mean, standard deviation, extremes and quantiles of the numbers."""
    statistics = {
        "median": np.median(values),
        "mean": np.mean(values),
        "sd": np.std(values),
        "min": np.min(values),
        "max": np.max(values),
    }
    statistics |= {f"p{quantile:02}": np.percentile(values, quantile) for quantile in QUANTILES}
    return {f"{name}/{statistic}": float(value) for statistic, value in statistics.items()}


def describe_length_bias(pairs: Sequence[Pair]) -> dict[str, float]:
    """How often chosen is the longer reply (equal lengths count half), and how its margin and its lead in characters
    correlate (Pearson; absent if either does not vary)."""
    leads = np.array([len(get_reply_text(pair.chosen)) - len(get_reply_text(pair.rejected)) for pair in pairs])
    metrics = {"chosen_longer": float(np.mean(leads > 0) + np.mean(leads == 0) / 2)}
    margins, leads = get_margins(pairs), leads[[pair.margin is not None for pair in pairs]]
    if len(margins) > 1 and np.std(margins) > 0 and np.std(leads) > 0:
        metrics["margin_length_correlation"] = float(np.corrcoef(margins, leads)[0, 1])
    return metrics


def describe_fit(pairs: Sequence[Pair]) -> dict[str, float]:
    """The fit of both replies to their dialogue, of the pairs that have it; nothing where none has."""
    fits = [(pair.chosen_fit, pair.rejected_fit) for pair in pairs]
    fits = [each for each in fits if None not in each]
    if not fits:
        return {}
    chosen, rejected = zip(*fits, strict=True)
    return summarize("chosen_fit", chosen) | summarize("rejected_fit", rejected)


def describe_naming(pairs: Sequence[Pair], labels: Labels) -> dict[str, float]:
    """How often each reply has a word that names its target emotion, of the pairs whose target has such words; nothing
    where there are none."""
    words = read_emotion_words(None, labels) or {}
    targets = [(pair, find_target_emotion(pair, labels)) for pair in pairs]
    targets = [(pair, target) for pair, target in targets if target in words]
    return {
        f"{side}_names_emotion": float(
            np.mean([names_emotion(words, get_reply_text(getattr(pair, side)), target) for pair, target in targets])
        )
        for side in (("chosen", "rejected") if targets else ())
    }


def count_targets(pairs: Sequence[Pair], labels: Labels) -> Iterator[tuple[str, int]]:
    """How many pairs have each target emotion; nothing without labels."""
    counts = Counter(find_target_emotion(pair, labels) or UNKNOWN for pair in pairs)
    for emotion in (*labels.names, UNKNOWN) if labels else ():
        if counts[emotion]:
            yield f"target/{emotion}", counts[emotion]


def count_missing_markers(pairs: Sequence[Pair], required_markers: Sequence[str]) -> Iterator[tuple[str, int]]:
    """How many of the prompts that are text lack each marker; messages get theirs from the chat template."""
    prompts = [pair.prompt for pair in pairs if isinstance(pair.prompt, str)]
    for marker in required_markers if prompts else []:
        yield f"missing_marker/{marker}", sum(marker not in prompt for prompt in prompts)
