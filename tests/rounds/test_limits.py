"""The stop rule and the choice of the best round, with metrics as the programs write them and limits by hand."""

import pytest

from response_generator.config.rounds.rounds_schema import StopArguments
from response_generator.errors import RunError
from response_generator.rounds.limits import Round, choose_best, find_stop_reason, list_figures

START = {
    "emotion_accuracy": 0.60,
    "mean_new_tokens": 20.0,
    "distinct_2": 0.40,
    "gold_perplexity": 20.0,
    "fit": 0.50,
    "names_emotion": 0.30,
}
LIMITS = StopArguments(
    max_token_ratio=1.1,
    min_distinct_2_ratio=0.95,
    max_gold_perplexity_ratio=1.15,
    min_fit_ratio=0.95,
    max_naming_rise=0.05,
    max_chosen_logp_fall=5.0,
)


def evaluated(number: int, reward: float = 1.0, **changes: float) -> Round:
    """A round whose adapter has the figures of the start but for `changes`; `reward` is that of the chosen replies,
    with beta 0.1: +1.0 means that their log-probability rose by 10 nats."""
    metrics = {f"baseline/{name}": value for name, value in START.items()}
    metrics |= {f"adapter/{name}": value for name, value in (START | changes).items()}
    return Round.of(number, metrics, {"last_quarter/rewards/chosen": reward}, beta=0.1)


def test_a_gain_at_no_price_goes_on():
    assert find_stop_reason([evaluated(1, emotion_accuracy=0.65)], LIMITS) is None


# Just within each limit: 1.1 x 20 tokens, 0.95 x 0.40, 1.15 x 20, 0.95 x 0.50, 30 + 5 points, 5 nats.
WITHIN = {
    "mean_new_tokens": 21.9,
    "distinct_2": 0.381,
    "gold_perplexity": 22.9,
    "fit": 0.476,
    "names_emotion": 0.349,
}
BEYOND = {
    "mean_new_tokens": (22.1, "tokens per reply ×1.105, allowed ≤ ×1.100"),
    "distinct_2": (0.379, "distinct-2 ×0.948, allowed ≥ ×0.950"),
    "gold_perplexity": (23.1, "perplexity of the gold replies ×1.155, allowed ≤ ×1.150"),
    "fit": (0.47, "fit to the own dialogue, nats a token ×0.940, allowed ≥ ×0.950"),
    "names_emotion": (0.36, "names the target +6.0 points, allowed ≤ +5.0 points"),
}


def test_every_price_just_within_its_limit_goes_on():
    assert find_stop_reason([evaluated(1, reward=-0.49, emotion_accuracy=0.65, **WITHIN)], LIMITS) is None


@pytest.mark.parametrize("name", BEYOND)
def test_every_price_beyond_its_limit_ends_the_rounds(name):
    value, words = BEYOND[name]
    found = evaluated(1, emotion_accuracy=0.90, **{name: value})
    assert find_stop_reason([found], LIMITS) == f"round 1 is beyond the limit: {words}"
    assert choose_best([found], LIMITS) is None
    without = LIMITS.model_copy(update={key: None for key in StopArguments.model_fields if key != "min_gain"})
    assert find_stop_reason([found], without) is None  # each limit is null, so only the gain counts


def test_chosen_replies_that_become_unlikely_end_the_rounds():
    """A reward of -0.6 with beta 0.1 is a log-probability that fell by 6 nats; 5 are allowed."""
    found = evaluated(1, reward=-0.6, emotion_accuracy=0.90)
    assert "chosen replies, nats +6.00, allowed ≤ +5.00" in find_stop_reason([found], LIMITS)
    assert find_stop_reason([evaluated(1, reward=0.6, emotion_accuracy=0.90)], LIMITS) is None  # more likely


def test_a_policy_that_collapses_into_long_replies():
    rounds = [evaluated(1, emotion_accuracy=0.65, mean_new_tokens=21.0)]
    assert find_stop_reason(rounds, LIMITS) is None
    rounds.append(evaluated(2, emotion_accuracy=0.80, mean_new_tokens=60.0))
    assert "round 2 is beyond the limit: tokens per reply ×3.000" in find_stop_reason(rounds, LIMITS)
    assert choose_best(rounds, LIMITS).number == 1


def test_a_policy_that_collapses_into_one_reply():
    rounds = [evaluated(1, emotion_accuracy=0.65), evaluated(2, emotion_accuracy=0.99, distinct_2=0.02, fit=-0.1)]
    reason = find_stop_reason(rounds, LIMITS)
    assert "distinct-2 ×0.050" in reason and "fit to the own dialogue, nats a token ×-0.200" in reason
    assert choose_best(rounds, LIMITS).number == 1


def test_no_gain_ends_the_rounds():
    first = evaluated(1, emotion_accuracy=0.65)
    assert "no gain: it follows 65.0 % of the targets, the best before it 65.0 %" in find_stop_reason(
        [first, evaluated(2, emotion_accuracy=0.65)], LIMITS
    )
    assert "the best before it 60.0 %" in find_stop_reason([evaluated(1, emotion_accuracy=0.58)], LIMITS)
    assert find_stop_reason([first, evaluated(2, emotion_accuracy=0.66)], LIMITS) is None
    two_points = LIMITS.model_copy(update={"min_gain": 0.02})
    assert "no gain" in find_stop_reason([first, evaluated(2, emotion_accuracy=0.66)], two_points)
    # The best of all before it counts, not the one before.
    worse = evaluated(2, emotion_accuracy=0.61)
    assert "the best before it 65.0 %" in find_stop_reason([first, worse, evaluated(3, emotion_accuracy=0.63)], LIMITS)
    assert find_stop_reason([evaluated(1)], LIMITS.model_copy(update={"min_gain": -1.0})) is None


def test_the_best_round_gains_most_within_the_limits():
    rounds = [
        evaluated(1, emotion_accuracy=0.66),
        evaluated(2, emotion_accuracy=0.70),
        evaluated(3, emotion_accuracy=0.70),
        evaluated(4, emotion_accuracy=0.90, mean_new_tokens=30.0),
    ]
    assert choose_best(rounds, LIMITS).number == 2  # the first of equal ones
    assert choose_best(rounds, LIMITS.model_copy(update={"max_token_ratio": 1.6})).number == 4
    assert choose_best(rounds[:1], LIMITS).number == 1


def test_no_round_is_kept_where_none_is_better_than_the_start():
    assert choose_best([evaluated(1), evaluated(2, emotion_accuracy=0.59)], LIMITS) is None


def test_a_fit_below_zero_has_a_limit_too():
    """Of -0.5, 0.95 times allows a fall by 5 % of its size, to -0.525."""
    metrics = {f"{model}/emotion_accuracy": 0.5 for model in ("baseline", "adapter")} | {"baseline/fit": -0.5}
    limits = StopArguments(min_fit_ratio=0.95)
    for fit, broken in ((-0.52, 0), (-0.53, 1), (-0.4, 0)):
        found = Round.of(1, metrics | {"adapter/fit": fit}, {}, beta=0.1)
        assert len(found.list_broken(limits)) == broken, fit


def test_a_limit_without_a_figure_is_an_error_and_not_passed_over():
    metrics = {f"{model}/emotion_accuracy": 0.5 for model in ("baseline", "adapter")}
    found = Round.of(1, metrics, {}, beta=0.1)
    with pytest.raises(RunError, match=r"round 1: has no figure for stop.max_token_ratio"):
        found.list_broken(StopArguments(max_token_ratio=1.1))
    with pytest.raises(RunError, match="its evaluation has no emotion_accuracy"):
        Round.of(2, {}, {}, beta=0.1)


def test_the_figures_of_a_round():
    figures = list_figures(evaluated(1, reward=-0.2, emotion_accuracy=0.65, mean_new_tokens=30.0), LIMITS)
    assert figures["gain"] == pytest.approx(0.05)
    assert (figures["mean_new_tokens"], figures["start/mean_new_tokens"]) == (30.0, 20.0)
    assert (figures["chosen_logp_fall"], figures["limits_broken"]) == (pytest.approx(2.0), 1)
