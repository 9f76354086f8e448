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

LABEL, FORM, GIBBERISH = "{noun}", "form", "gibberish classifier"  # sections of the report
RECALL, PRECISION, F1 = "recall, by target {noun}", "precision, by predicted {noun}", "F1, by {noun}"
NEUTRAL = "neutral label"  # what a metric may need, besides columns


@dataclass(frozen=True)
class Metric:
    """One metric of a model's replies: sum of `numerator` over sum of `denominator`.

    Args:
        name: in metrics.json.
        title: in the table and the report. In all texts, `{neutral}` becomes the neutral label, and `{noun}` what the
            labels are called.
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
        of_model: of the model itself and not of its replies, so a row with the best of several replies has none.
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
    of_model: bool = False
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
        "target {noun} followed",
        LABEL,
        follows_target,
        needs=NEEDS_EMOTION,
        paired_test=True,
        on_gold=True,
        phrase="follows the target {noun}",
        card="target {noun} followed",
    ),
    Metric(
        "non_neutral_accuracy",
        "… of targets other than {neutral}",
        LABEL,
        follows_target,
        paired_test=True,
        on_gold=True,
        phrase="follows target {noun}s other than {neutral}",
        **NON_NEUTRAL,
    ),
    Metric(
        "target_probability",
        "probability of the target {noun}",
        LABEL,
        read_column("target_probability"),
        needs=("target_probability",),
        is_proportion=False,
    ),
    Metric("emotion_f1_weighted", "{noun} F1, weighted", LABEL, higher_is_better=True, **EMOTION_F1),
    Metric("emotion_f1_macro", "{noun} F1, macro", LABEL, higher_is_better=True, **EMOTION_F1),
    Metric(
        "emotion_f1_micro_without_neutral",
        "{noun} F1, micro without {neutral}",
        LABEL,
        needs=NON_NEUTRAL["needs"],
        **F1_METRICS,
    ),
    Metric(
        "non_neutral_f1_weighted",
        "F1 on targets other than {neutral}, weighted",
        LABEL,
        **F1_METRICS,
        **NON_NEUTRAL,
    ),
    Metric("non_neutral_f1_macro", "F1 on targets other than {neutral}, macro", LABEL, **F1_METRICS, **NON_NEUTRAL),
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
        of_model=True,
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
    found = [metric for metric in METRICS if known.issuperset(metric.needs)]
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
    return {metric.name: adapt_to_labels(metric, labels) for metric in found}


def name_label_sections(labels: Labels) -> list[str]:
    """The sections whose metrics are of one label each."""
    return [fill_in(section, labels) for section in (RECALL, PRECISION, F1)]


def fill_in(text: str, labels: Labels) -> str:
    return text.replace("{neutral}", str(labels.neutral)).replace("{noun}", labels.noun)


def adapt_to_labels(metric: Metric, labels: Labels) -> Metric:
    """The metric with the labels' names in its texts, and without the replies that it does not count."""
    texts = {name: getattr(metric, name) for name in ("title", "section", "phrase", "card")}
    metric = replace(metric, **{name: fill_in(text, labels) for name, text in texts.items() if text is not None})
    if metric.counts_neutral:
        return metric
    others = has_other_value("target_emotion", labels.neutral)
    numerator = both(metric.numerator, others) if metric.numerator else None
    return replace(metric, numerator=numerator, denominator=others)
