"""The table of all metrics of the replies.

To add a metric that is a ratio of two sums over the replies, add one entry to `METRICS`. The terminal table, the
report, the intervals, the paired tests, the conclusions and metrics.json all read that entry.
"""

from collections.abc import Collection, Sequence

import numpy as np

from response_generator.constants import CLEAN
from response_generator.evaluation import columns
from response_generator.evaluation.columns import (
    both,
    follows_target,
    has_value,
    read_column,
)
from response_generator.evaluation.metric import Metric, adapt_to_labels, fill_in
from response_generator.evaluation.predictions_file import EMOTION_LIST
from response_generator.evaluation.statistics.corrected import CORRECTED
from response_generator.labels import Labels

LABEL, FORM, FIT, GIBBERISH = "{noun}", "form", "fit", "gibberish classifier"  # sections of the report
RECALL, PRECISION, F1 = "recall, by target {noun}", "precision, by predicted {noun}", "F1, by {noun}"
NEUTRAL = "neutral label"  # what a metric may need, besides columns

NEEDS_EMOTION = ("predicted_emotion",)
NON_NEUTRAL = {"needs": (*NEEDS_EMOTION, NEUTRAL), "counts_neutral": False}
F1_METRICS = {"is_proportion": False, "on_gold": True}
EMOTION_F1 = F1_METRICS | {"needs": NEEDS_EMOTION}
FLAWS = {"paired_test": True, "higher_is_better": False}
NUMBERS = {"is_proportion": False, "in_percent": False}
TOKENS = NUMBERS | {"in_tokens": True}
LENGTH = TOKENS | {"on_gold": True, "card": "tokens per reply", "price": "longer replies"}
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
        CORRECTED,
        "… without the classifier's errors",
        LABEL,
        needs=(*NEEDS_EMOTION, "gold_emotion"),
        is_proportion=False,
    ),
    Metric(
        "accuracy_at_equal_length",
        "… with replies cut to equal length",
        LABEL,
        follows_target,
        needs=(EMOTION_LIST,),
        paired_test=True,
        phrase="follows the target {noun}, with replies cut to equal length,",
        is_pairwise=True,
    ),
    Metric(
        "length_controlled_accuracy",
        "… controlled for length",
        LABEL,
        needs=NEEDS_EMOTION,
        is_proportion=False,
        phrase="follows the target {noun}, controlled for length,",
        is_pairwise=True,
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
        "followed_unnamed",
        "… and not named",
        LABEL,
        columns.follows_target_unnamed,
        paired_test=True,
        on_gold=True,
        phrase="follows target {noun}s without naming them",
        needs=(*NON_NEUTRAL["needs"], "names_emotion"),
        counts_neutral=False,
    ),
    Metric(
        "target_probability",
        "probability of the target {noun}",
        LABEL,
        read_column("target_probability"),
        needs=("target_probability",),
        is_proportion=False,
    ),
    Metric("emotion_recall_macro", "mean recall of the {noun}s", LABEL, **EMOTION_F1),
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
        "second_emotion_accuracy",
        "target {noun} followed, by the second classifier",
        LABEL,
        columns.follows_target_by_second,
        needs=("second_emotion",),
        paired_test=True,
        on_gold=True,
        phrase="follows the target {noun}, by the second classifier,",
    ),
    Metric(
        "classifier_agreement",
        "both classifiers agree",
        LABEL,
        columns.classifiers_agree,
        needs=(*NEEDS_EMOTION, "second_emotion"),
        on_gold=True,
    ),
    Metric(
        "names_emotion",
        "names the target {noun}",
        FORM,
        read_column("names_emotion"),
        needs=("names_emotion",),
        counts_neutral=False,
        on_gold=True,
        **FLAWS,
    ),
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
    Metric("mean_new_tokens", "tokens per reply", FORM, columns.new_tokens, **LENGTH),
    Metric(
        "length_ratio",
        "tokens of all replies / of all gold replies",
        FORM,
        columns.new_tokens,
        columns.gold_tokens,
        beside_gold=True,
        **TOKENS,
    ),
    Metric(
        "mean_gold_length_ratio",
        "tokens of a reply / of its gold reply, mean",
        FORM,
        columns.length_ratio,
        beside_gold=True,
        **TOKENS,
    ),
    Metric("distinct_1", "distinct-1", FORM, on_gold=True, higher_is_better=True, **NUMBERS),
    Metric("distinct_2", "distinct-2", FORM, on_gold=True, higher_is_better=True, **NUMBERS),
    Metric(
        "gold_perplexity",
        "perplexity of the gold replies",
        FORM,
        lambda rows: -read_column("gold_logp")(rows),
        columns.gold_tokens,
        needs=("gold_logp",),
        beside_gold=True,
        transform=np.exp,
        of_model=True,
        card="perplexity of the gold replies",
        higher_is_better=False,
        **TOKENS,
    ),
    Metric(
        "fit",
        "fit to the own dialogue, nats a token",
        FIT,
        read_column("fit"),
        needs=("fit",),
        on_gold=True,
        higher_is_better=True,
        **NUMBERS,
    ),
    Metric(
        "fit_rank_first",
        "own dialogue fits best",
        FIT,
        read_column("fit_first"),
        needs=("fit_first",),
        paired_test=True,
        on_gold=True,
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
        of_clean = (
            {"phrase": "writes clean replies", "card": "clean replies", "higher_is_better": True}
            if label == CLEAN
            else {}
        )
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
