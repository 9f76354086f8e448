"""What each round has gained and what that has cost, when to stop, and which round to keep. Needs no model."""

from collections.abc import Sequence
from dataclasses import dataclass

from response_generator.config.rounds.rounds_schema import StopArguments
from response_generator.constants import ADAPTER, BASELINE
from response_generator.errors import RunError
from response_generator.training.run_training import LAST_QUARTER

GAIN = "emotion_accuracy"
CHOSEN_LOGP = "chosen_logp_fall"
RATIO, DIFFERENCE = "ratio", "difference"
Metrics = dict[str, float]  # metrics.json of a run


@dataclass(frozen=True)
class Price:
    """What a gain may cost.

    metric: in metrics.json of the evaluation; CHOSEN_LOGP is of the training. limit: its key in the section stop.
    form: how a round is compared with the start, as a multiple or by subtraction. may_rise: the limit is the greatest
    value, else the least one. in_percent: shown as a percentage.
    """

    metric: str
    title: str
    limit: str
    form: str = RATIO
    may_rise: bool = False
    in_percent: bool = False

    def compare(self, value: float, start: float) -> float:
        """The multiple or the difference that the limit is about."""
        if self.form == DIFFERENCE:
            return value - start
        # Also for a start at or below 0, where a quotient would say nothing: fit can be negative.
        return 1 + (value - start) / abs(start) if start else float("inf" if value > start else value == start)

    def breaks(self, value: float, start: float, limit: float) -> bool:
        found = self.compare(value, start)
        return found > limit if self.may_rise else found < limit


PRICES = (
    Price("mean_new_tokens", "tokens per reply", "max_token_ratio", may_rise=True),
    Price("distinct_2", "distinct-2", "min_distinct_2_ratio"),
    Price("gold_perplexity", "perplexity of the gold replies", "max_gold_perplexity_ratio", may_rise=True),
    Price("fit", "fit to the own dialogue, nats a token", "min_fit_ratio"),
    Price("names_emotion", "names the target", "max_naming_rise", DIFFERENCE, may_rise=True, in_percent=True),
    Price(CHOSEN_LOGP, "lost log-probability of chosen replies, nats", "max_chosen_logp_fall", DIFFERENCE, True),
)


@dataclass(frozen=True)
class Round:
    """The figures of a finished round.

    number: from 1 on. adapter, start: `{metric: value}` of its adapter and of the one that the first round starts
    from, on the same prompts. evaluation: metrics.json of its evaluation.
    """

    number: int
    adapter: Metrics
    start: Metrics
    evaluation: Metrics

    @classmethod
    def of(cls, number: int, evaluation: Metrics, training: Metrics, beta: float) -> "Round":
        """
        Args:
            evaluation, training: metrics.json of the two runs. beta: that of the training, which TRL's rewards are
                scaled with.

        Raises:
            RunError: when the evaluation has no share of followed targets.
        """
        adapter, start = ({}, {})
        for name in (GAIN, *(price.metric for price in PRICES)):
            for found, model in ((adapter, ADAPTER), (start, BASELINE)):
                if f"{model}/{name}" in evaluation:
                    found[name] = evaluation[f"{model}/{name}"]
        if GAIN not in adapter or GAIN not in start:
            raise RunError(f"round {number}: its evaluation has no {GAIN} of both models, so rounds cannot be compared")
        reward = training.get(f"{LAST_QUARTER}rewards/chosen")
        if reward is not None:
            adapter[CHOSEN_LOGP], start[CHOSEN_LOGP] = -reward / beta, 0.0
        return cls(number, adapter, start, evaluation)

    @property
    def gain(self) -> float:
        """The share of followed targets minus that of the start."""
        return self.adapter[GAIN] - self.start[GAIN]

    def list_prices(self) -> list[Price]:
        return [price for price in PRICES if price.metric in self.adapter and price.metric in self.start]

    def list_broken(self, stop: StopArguments) -> list[str]:
        """A phrase for each limit that the round is beyond.

        Raises:
            RunError: when the round has no such figure.
        """
        broken = []
        for price in PRICES:
            limit = getattr(stop, price.limit)
            if limit is None:
                continue
            if price.metric not in self.adapter or price.metric not in self.start:
                raise RunError(
                    f"round {self.number}: has no figure for stop.{price.limit} ({price.title}), in metrics.json of "
                    f"its evaluation or training; remove the limit with --set stop.{price.limit}=null, in a run with "
                    f"another output_dir"
                )
            value, start = self.adapter[price.metric], self.start[price.metric]
            if price.breaks(value, start, limit):
                found = format_comparison(price, price.compare(value, start))
                broken.append(f"{price.title} {found}, allowed {format_limit(price, limit)}")
        return broken


def describe_limits(stop: StopArguments) -> str:
    """All limits in one line."""
    limits = {price: getattr(stop, price.limit) for price in PRICES}
    known = [f"{price.title} {format_limit(price, limit)}" for price, limit in limits.items() if limit is not None]
    return f"limits: {'; '.join(known)}" if known else "no limit on the price: the section stop has none"


def find_stop_reason(rounds: Sequence[Round], stop: StopArguments) -> str | None:
    """Why the last of the rounds is to be the last one; None where the next may begin."""
    *earlier, last = rounds
    if broken := last.list_broken(stop):
        return f"round {last.number} is beyond the limit: {'; '.join(broken)}"
    best = max([last.start[GAIN], *(each.adapter[GAIN] for each in earlier)])
    rise = last.adapter[GAIN] - best
    if rise <= stop.min_gain:
        return (
            f"round {last.number} brings no gain: it follows {last.adapter[GAIN]:.1%} of the targets, the best before "
            f"it {best:.1%}"
        ).replace("%", " %")
    return None


def choose_best(rounds: Sequence[Round], stop: StopArguments) -> Round | None:
    """The round within all limits that gains most, the first of equal ones; None where none gains anything."""
    within = [each for each in rounds if not each.list_broken(stop) and each.gain > 0]
    return max(within, key=lambda each: each.gain, default=None)


def format_comparison(price: Price, number: float) -> str:
    if price.form == RATIO:
        return f"×{number:.3f}"  # with two digits, a multiple just beyond a limit would look like the limit
    return f"{number * 100:+.1f} points" if price.in_percent else f"{number:+.2f}"


def format_limit(price: Price, limit: float) -> str:
    return f"{'≤' if price.may_rise else '≥'} {format_comparison(price, limit)}"


def list_figures(found: Round, stop: StopArguments) -> dict[str, float]:
    """Its gain, how many limits it is beyond, and its figures beside those of the start; none depends on the time."""
    figures = {"gain": found.gain, "limits_broken": len(found.list_broken(stop))} | found.adapter
    return figures | {f"start/{name}": value for name, value in found.start.items()}
