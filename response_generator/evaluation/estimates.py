"""A value with its interval."""

from dataclasses import dataclass

from response_generator.evaluation.intervals import Interval


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and for a tested difference the p-value of "no difference"."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @classmethod
    def of(cls, value: float, interval: Interval | None = None, p: float | None = None) -> "Estimate":
        return cls(float(value), *(interval or (None, None)), p)
