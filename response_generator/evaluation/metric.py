"""What is known of one metric of the replies."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from response_generator.evaluation.columns import Column
from response_generator.evaluation.statistics.distinct import ORDERS


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
        needs: columns of predictions.jsonl that only a scorer gives, and NEUTRAL where the labels must have a
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
