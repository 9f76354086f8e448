"""Labels the chosen replies of a data set by the two classifiers, for filters that need it."""

from dataclasses import replace

from response_generator.config.dataset_schema import FilterArguments, FilteredPairDatasetArguments
from response_generator.config.scoring_schema import ScoringArguments
from response_generator.data.datasets import Pair, ReplyLabels, Skipped
from response_generator.data.pair_text import get_reply_text
from response_generator.data.reading import count_skipped
from response_generator.labels import Labels
from response_generator.preferences.filters import count_filtered, filter_pairs, needs_labels


def filter_dataset(
    key: str,
    pairs: list[Pair],
    skipped: Skipped,
    dataset: FilteredPairDatasetArguments | None,
    scoring: ScoringArguments | None,
    labels: Labels,
) -> tuple[list[Pair], dict[str, int]]:
    """Applies `filters` of a data set. Without a data set there are no pairs.

    Args:
        key: of the data set in the args, for messages and metrics.
        skipped: its bad rows.

    Returns:
        The pairs that pass, and the metrics of the bad rows and of the pairs that each filter has dropped.

    Raises:
        InputError: when a classifier cannot be used, a pair lacks what a filter needs, or no pair passes.
    """
    if dataset is None:
        return [], {}
    if scoring is not None:
        pairs = add_labels(pairs, dataset.filters, scoring, labels)
    kept, dropped = filter_pairs(key, pairs, dataset.filters, labels)
    return kept, count_skipped(key, dataset, skipped) | count_filtered(key, dropped)


def add_labels(pairs: list[Pair], filters: FilterArguments, scoring: ScoringArguments, labels: Labels) -> list[Pair]:
    """The same pairs with labels of their chosen replies, if a filter needs these; labels that are there stay."""
    texts = list(dict.fromkeys(get_reply_text(pair.chosen) for pair in pairs if pair.chosen_labels is None))
    if not texts or not needs_labels(filters):
        return pairs
    from response_generator.scoring import classifiers  # imports torch, which describing pairs does not need

    classifiers.check_classifiers(scoring, labels)
    emotions = classifiers.classify(classifiers.load_emotion_classifier(scoring), texts, "emotion")
    gibberish = classifiers.classify(classifiers.load_gibberish_classifier(scoring), texts, "gibberish")
    found = {
        text: ReplyLabels(emotion and emotion.label, clean and clean.label, clean and clean.score)
        for text, emotion, clean in zip(texts, emotions, gibberish, strict=True)
    }
    return [replace(pair, chosen_labels=pair.chosen_labels or found[get_reply_text(pair.chosen)]) for pair in pairs]
