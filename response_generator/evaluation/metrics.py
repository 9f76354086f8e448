"""The table of all metrics of the replies.

To add a metric that is a ratio of two sums over the replies, add one entry to `METRICS`. The terminal table, the
report, the intervals, the paired tests, the conclusions and metrics.json all read that entry.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from response_generator.constants import CLEAN
from response_generator.evaluation import columns
from response_generator.evaluation.columns import Column, both, follows_target, has_other_value, has_value, read_column
from response_generator.evaluation.statistics.distinct import ORDERS
from response_generator.labels import Labels

EMOTION, FORM, GIBBERISH = "emotion", "form", "gibberish classifier"  # sections of the report
RECALL = "recall, by target emotion"
PRECISION = "precision, by predicted emotion"
F1 = "F1, by emotion"
NEUTRAL = "neutral label"  # what a metric may need, besides columns


@dataclass(frozen=True)
class Metric:
    """One metric of a model's replies: sum of `numerator` over sum of `denominator`.

    Args:
        name: in metrics.json.
        title: in the table and the report; `{neutral}` in it, and in `phrase`, becomes the neutral label.
        section: the part of the table it is listed in.
        numerator, denominator: one number a reply. A metric without a numerator is computed in
            metric_totals.py (F1, from the confusion matrix) or in distinct.py. Its denominator only says which replies
            count.
        needs: columns of predictions.jsonl that only a classifier gives, and NEUTRAL where the labels must have a
            neutral one. Without one of them the metric does not exist.
        counts_neutral: also counts replies with a neutral target.
        transform: applied to the ratio, for example `np.exp` for a perplexity.
        is_proportion: the ratio is a share of replies. It gets exact bounds where all prompts agree.
        in_percent: shown times 100. Without it the number is shown as it is, with two digits.
        in_tokens: depends on how a tokenizer splits text, so it is left out where the models count tokens differently.
        paired_test: differences between two models also get the p-value of a test.
        on_gold: also computed for the gold replies.
        phrase: completes "The adapter … more often than the baseline" in the conclusions.
        card: title of its card at the top of the report; None: it has none.
        higher_is_better: the conclusions report a clear change as better or worse; None: they do not mention it.
    """

    name: str
    title: str
    section: str
    numerator: Column | None = None
    denominator: Column = lambda rows: np.ones(len(rows))
    needs: Collection[str] = ()
    counts_neutral: bool = True
    transform: Callable[[np.ndarray], np.ndarray] = lambda ratio: ratio
    is_proportion: bool = True
    in_percent: bool = True
    in_tokens: bool = False
    paired_test: bool = False
    on_gold: bool = False
    phrase: str | None = None
    card: str | None = None
    higher_is_better: bool | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.in_percent or self.name in ORDERS

    @property
    def carries_conclusions(self) -> bool:
        """Whether the conclusions or the cards may mention it. The terminal shows only these, and their p-values are
        corrected together."""
        return self.phrase is not None or self.card is not None or self.higher_is_better is not None


NEEDS_EMOTION = ("predicted_emotion",)
NON_NEUTRAL = {"needs": (*NEEDS_EMOTION, NEUTRAL), "counts_neutral": False}
F1_METRICS = {"is_proportion": False, "on_gold": True}
EMOTION_F1 = F1_METRICS | {"needs": NEEDS_EMOTION}
FLAWS = {"paired_test": True, "higher_is_better": False}
NUMBERS = {"is_proportion": False, "in_percent": False}
TOKENS = NUMBERS | {"in_tokens": True}
METRICS = (
    Metric(
        "emotion_accuracy",
        "target emotion followed",
        EMOTION,
        follows_target,
        needs=NEEDS_EMOTION,
        paired_test=True,
        on_gold=True,
        phrase="follows the target emotion",
        card="target emotion followed",
    ),
    Metric(
        "non_neutral_accuracy",
        "… of targets other than {neutral}",
        EMOTION,
        follows_target,
        paired_test=True,
        on_gold=True,
        phrase="follows target emotions other than {neutral}",
        **NON_NEUTRAL,
    ),
    Metric(
        "target_probability",
        "probability of the target emotion",
        EMOTION,
        read_column("target_probability"),
        needs=("target_probability",),
        is_proportion=False,
    ),
    Metric("emotion_f1_weighted", "emotion F1, weighted", EMOTION, higher_is_better=True, **EMOTION_F1),
    Metric("emotion_f1_macro", "emotion F1, macro", EMOTION, higher_is_better=True, **EMOTION_F1),
    Metric(
        "emotion_f1_micro_without_neutral",
        "emotion F1, micro without {neutral}",
        EMOTION,
        needs=NON_NEUTRAL["needs"],
        **F1_METRICS,
    ),
    Metric(
        "non_neutral_f1_weighted",
        "F1 on targets other than {neutral}, weighted",
        EMOTION,
        **F1_METRICS,
        **NON_NEUTRAL,
    ),
    Metric("non_neutral_f1_macro", "F1 on targets other than {neutral}, macro", EMOTION, **F1_METRICS, **NON_NEUTRAL),
    Metric(
        "ends_with_punctuation",
        "ends with punctuation",
        FORM,
        read_column("ends_with_punctuation"),
        paired_test=True,
        on_gold=True,
        phrase="ends its replies with punctuation",
    ),
    Metric("hit_max_new_tokens", "stopped by max_new_tokens", FORM, read_column("hit_max_new_tokens"), **FLAWS),
    Metric("exact_repeats", "same reply to another prompt", FORM, columns.repeats_another_reply, **FLAWS),
    Metric("copies_of_last_turn", "copies the user's last turn", FORM, columns.copies_last_turn, **FLAWS),
    Metric(
        "mean_new_tokens", "tokens per reply", FORM, columns.new_tokens, on_gold=True, card="tokens per reply", **TOKENS
    ),
    Metric(
        "length_ratio",
        "tokens of all replies / of all gold replies",
        FORM,
        columns.new_tokens,
        columns.gold_tokens,
        **TOKENS,
    ),
    Metric(
        "mean_gold_length_ratio", "tokens of a reply / of its gold reply, mean", FORM, columns.length_ratio, **TOKENS
    ),
    Metric("distinct_1", "distinct-1", FORM, on_gold=True, higher_is_better=True, **NUMBERS),
    Metric("distinct_2", "distinct-2", FORM, on_gold=True, higher_is_better=True, **NUMBERS),
    Metric(
        "gold_perplexity",
        "perplexity of the gold replies",
        FORM,
        lambda rows: -read_column("gold_logp")(rows),
        columns.gold_tokens,
        transform=np.exp,
        card="perplexity of the gold replies",
        higher_is_better=False,
        **TOKENS,
    ),
)


def list_metrics(labels: Labels, known: Collection[str], gibberish_labels: Sequence[str]) -> dict[str, Metric]:
    """`METRICS`, and those of each gibberish label and each label of the run, by name.

    Args:
        known: the columns of the predictions.
        gibberish_labels: none without their classifier.
    """
    known = {*known, NEUTRAL} if labels.neutral else {*known}
    found = [adapt_to_neutral(metric, labels.neutral) for metric in METRICS if known.issuperset(metric.needs)]
    for label in gibberish_labels:
        of_clean = {"phrase": "writes clean replies", "card": "clean replies"} if label == CLEAN else {}
        is_label = has_value("gibberish_label", label)
        found.append(
            Metric(f"gibberish/{label}", label, GIBBERISH, is_label, paired_test=True, on_gold=True, **of_clean)
        )
    for emotion in labels.names if known.issuperset(NEEDS_EMOTION) else ():
        target, prediction = has_value("target_emotion", emotion), has_value("predicted_emotion", emotion)
        hits = both(target, prediction)
        found += [
            Metric(f"emotion/{emotion}/recall", emotion, RECALL, hits, target, on_gold=True),
            Metric(f"emotion/{emotion}/precision", emotion, PRECISION, hits, prediction, on_gold=True),
            Metric(f"emotion/{emotion}/f1", emotion, F1, denominator=target, **F1_METRICS),
        ]
    return {metric.name: metric for metric in found}


def adapt_to_neutral(metric: Metric, neutral: str | None) -> Metric:
    """The metric with the neutral label's name in its texts, and without the replies that it does not count."""
    title, phrase = (text and text.format(neutral=neutral) for text in (metric.title, metric.phrase))
    metric = replace(metric, title=title, phrase=phrase)
    if metric.counts_neutral:
        return metric
    others = has_other_value("target_emotion", neutral)
    numerator = both(metric.numerator, others) if metric.numerator else None
    return replace(metric, numerator=numerator, denominator=others)
