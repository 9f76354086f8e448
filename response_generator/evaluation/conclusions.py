"""What an evaluation allows to be said, in words: a difference, or that it could be noise."""

from response_generator.constants import EMOTIONS
from response_generator.evaluation.comparison import REFERENCE, Comparison, Estimate
from response_generator.evaluation.metrics import NOT_IN_PERCENT
from response_generator.evaluation.predictions_file import ADAPTER, BASELINE

SIGNIFICANT = 0.05
FEWEST_PROMPTS = 30  # resampled from fewer, an interval without a test beside it is too narrow
EMOTIONAL = EMOTIONS[1:]
# What a higher share means, in words that fit "the adapter … more often".
METRIC_PHRASES = {
    "emotion_accuracy": "follows the target emotion",
    "non_neutral_accuracy": "follows target emotions other than neutral",
    "complete": "ends its replies with a whole sentence",
    "gibberish/clean": "writes clean replies",
}
# Figures that the sentences above leave to the table: their words, and whether more of it is better (1) or worse (-1).
OTHER_FIGURES = {
    "emotion_f1_weighted": ("weighted emotion F1", 1),
    "emotion_f1_macro": ("macro emotion F1", 1),
    "reference_perplexity": ("perplexity of the reference replies", -1),
    "distinct_1": ("distinct-1", 1),
    "distinct_2": ("distinct-2", 1),
    "exact_repeats": ("replies given to another prompt too", -1),
    "copies_of_last_turn": ("copies of the user's last turn", -1),
    "stopped_by_limit": ("replies stopped by the token limit", -1),
}


def draw_conclusions(comparison: Comparison) -> list[str]:
    """The claim on the target emotion first, then the other deeds, what else is clearly worse or better, the held-out
    pairs, and what the judge allows."""
    first, *others = comparison.models
    found = []
    for model in others:
        for name, deed in METRIC_PHRASES.items():
            if name in comparison.differences[model]:
                found.append(sentence(model, first, deed, comparison, name))
        found += other_changes(model, first, comparison)
    if len(others) > 1:
        found.append(f"These are {len(others)} comparisons with {first}; each p is that of one comparison alone.")
    if not others:
        accuracy = comparison.figures[first]["emotion_accuracy"]
        found.append(
            f"The {first} follows the target emotion in {percent(accuracy.value)} of its replies"
            f"{bounds(accuracy)}, {size(comparison)}. There is no baseline, so nothing is said of progress."
        )
    if comparison.preference:
        found.append(preferred(comparison))
    return [*found, classifier_ceiling(comparison)]


def sentence(model: str, first: str, deed: str, comparison: Comparison, name: str) -> str:
    figure = comparison.differences[model][name]
    tail = f"{bounds(figure)}, p = {p_value(figure.p)}, {size(comparison, name)}."
    amount = f"{figure.value * 100:+.1f} points"
    if is_significant(figure):
        direction = "more" if figure.value > 0 else "less"
        return f"{named(model)} {deed} {direction} often than {named(first, False)}: {amount}{tail}"
    return (
        f"Whether {named(model, False)} {deed} more or less often than {named(first, False)} cannot be told: the "
        f"difference could be noise ({amount}{tail[:-1]})."
    )


def other_changes(model: str, first: str, comparison: Comparison) -> list[str]:
    """A sentence on the other figures that are clearly worse, and one on those that are clearly better."""
    changed: dict[int, list[str]] = {-1: [], 1: []}
    for name, (words, better) in OTHER_FIGURES.items():
        figure = comparison.differences[model].get(name)
        if figure is None or not is_clear_change(figure, comparison.prompts):
            continue
        before, after = (comparison.figures[of][name].value for of in (first, model))
        scale, digits, unit = (1, 2, "") if name in NOT_IN_PERCENT else (100, 1, " %")
        change = (
            f"{words} {before * scale:.{digits}f} -> {after * scale:.{digits}f}{unit}, 95 % CI of the difference "
            f"[{figure.low * scale:.{digits}f}, {figure.high * scale:.{digits}f}]"
        )
        changed[better if figure.value > 0 else -better].append(change)
    return [
        f"{named(model)} is clearly {'better' if side > 0 else 'worse'} than {named(first, False)} in: "
        f"{'; '.join(changes)}."
        for side, changes in changed.items()
        if changes
    ]


def is_significant(figure: Estimate) -> bool:
    """Both the interval and the test speak against chance."""
    return excludes_zero(figure) and figure.p is not None and figure.p < SIGNIFICANT


def is_clear_change(figure: Estimate, prompts: int) -> bool:
    """The same, where a test stands beside the interval; else the interval, of enough prompts."""
    return is_significant(figure) if figure.p is not None else excludes_zero(figure) and prompts >= FEWEST_PROMPTS


def excludes_zero(figure: Estimate) -> bool:
    return figure.low is not None and (figure.low > 0 or figure.high < 0)


def named(model: str, capital: bool = True) -> str:
    """The two models of a run are "the adapter" and "the baseline"; runs that are compared have names."""
    return f"{'The' if capital else 'the'} {model}" if model in (ADAPTER, BASELINE) else model


def size(comparison: Comparison, name: str = "emotion_accuracy") -> str:
    count = comparison.asking(*EMOTIONAL) if name == "non_neutral_accuracy" else comparison.prompts
    return f"n = {count:,}" + (f" prompts with {comparison.samples} replies each" if comparison.samples > 1 else "")


def bounds(figure: Estimate) -> str:
    """Of a share, in percent or points."""
    if figure.low is None:
        return ", no interval from prompts that show no spread"
    return f", 95 % CI [{figure.low * 100:.1f}, {figure.high * 100:.1f}]"


def p_value(p: float | None) -> str:
    if p is None:
        return "unknown"
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"


def percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def preferred(comparison: Comparison) -> str:
    """Also says when a coin would do as well, and how many pairs are ties, which are no preference."""
    share = comparison.preference["chosen_preferred"]
    mean = comparison.preference["margin_mean"]
    ties = int((comparison.margins == 0).sum())
    tail = f"; ties: {ties}" if ties else ""
    if share.low is None or share.low <= 0.5 <= share.high:
        tail += "; a coin could do as well"
    return (
        f"By its implicit reward against {named(comparison.models[0], False)}, the {comparison.models[-1]} prefers "
        f"the chosen reply in {percent(share.value)} of {comparison.preference['pairs'].value:,} held-out pairs"
        f"{bounds(share)}; mean margin {mean.value:.2f}{tail}."
    )


def classifier_ceiling(comparison: Comparison) -> str:
    """What the classifier makes of people's own replies to the same prompts."""
    own = comparison.figures[REFERENCE]["emotion_accuracy"]
    words = (
        f"The classifier itself names the target emotion of {percent(own.value)} of the reference replies{bounds(own)}"
    )
    beyond = [model for model in comparison.models if comparison.figures[model]["emotion_accuracy"].value > own.value]
    if not beyond:
        return f"{words}: no model can be certified beyond that."
    whose = " and ".join(named(model, False) for model in beyond)
    return (
        f"{words}, so it cannot certify more than that; {whose} scored higher, which may be the classifier's taste as "
        f"much as the emotion."
    )
