"""What is known of one metric of the replies."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from response_generator.evaluation.columns import Column, asks_for_gold_target, both, has_other_value
from response_generator.evaluation.statistics.distinct import ORDERS
from response_generator.labels import Labels


@dataclass(frozen=True)
class Metric:
    """One metric of a model's replies: sum of `numerator` over sum of `denominator`.

    Args:
        name: in metrics.json.
        title: in the table and the report. In all texts, `{neutral}` becomes the neutral label, and `{noun}` what the
            labels are called.
        section: the part of the table it is listed in.
        numerator, denominator: one number a reply. A metric without a numerator is computed in
            metric_totals.py (F1, from the confusion matrix), corrected.py, distinct.py or length_control.py. Its
            denominator only says which replies count.
        needs: columns of predictions.jsonl that only a scorer gives, and NEUTRAL where the labels must have a
            neutral one. Without one of them the metric does not exist.
        counts_neutral: also counts replies with a neutral target.
        beside_gold: sets a reply beside its gold reply, so it counts only replies with the target of the gold reply.
        transform: applied to the ratio, for example `np.exp` for a perplexity.
        is_proportion: the ratio is a share of replies. It gets exact bounds where all prompts agree.
        in_percent: shown times 100. Without it the number is shown as it is, with two digits.
        in_tokens: depends on how a tokenizer splits text, so it is left out where the models count tokens differently.
        paired_test: differences between two models also get the p-value of a test.
        on_gold: also computed for the gold replies.
        of_model: of the model itself and not of its replies, so a row with the best of several replies has none.
        phrase: completes "The adapter … more often than the baseline" in the conclusions.
        card: title of its card at the top of the report; None: it has none.
        price: what the conclusions call a clear rise of it, as a price of a gain, where it is no flaw by itself.
        is_pairwise: depends on the replies of two models, and is computed in length_control.py.
        higher_is_better: the conclusions report a clear change as better or worse; None: they do not mention it.
    """

    name: str
    title: str
    section: str
    numerator: Column | None = None
    denominator: Column = lambda rows: np.ones(len(rows))
    needs: Collection[str] = ()
    counts_neutral: bool = True
    beside_gold: bool = False
    transform: Callable[[np.ndarray], np.ndarray] = lambda ratio: ratio
    is_proportion: bool = True
    in_percent: bool = True
    in_tokens: bool = False
    paired_test: bool = False
    on_gold: bool = False
    of_model: bool = False
    phrase: str | None = None
    card: str | None = None
    price: str | None = None
    is_pairwise: bool = False
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


def fill_in(text: str, labels: Labels) -> str:
    return text.replace("{neutral}", str(labels.neutral)).replace("{noun}", labels.noun)


def adapt_to_labels(metric: Metric, labels: Labels) -> Metric:
    """The metric with the labels' names in its texts, and without the replies that it does not count."""
    texts = {name: getattr(metric, name) for name in ("title", "section", "phrase", "card")}
    metric = replace(metric, **{name: fill_in(text, labels) for name, text in texts.items() if text is not None})
    if not metric.counts_neutral and labels.neutral is not None:
        metric = count_only(metric, has_other_value("target_emotion", labels.neutral))
    return count_only(metric, asks_for_gold_target) if metric.beside_gold else metric


def count_only(metric: Metric, condition: Column) -> Metric:
    numerator = both(metric.numerator, condition) if metric.numerator else None
    return replace(metric, numerator=numerator, denominator=both(metric.denominator, condition))
