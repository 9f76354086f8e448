"""What this program adds to a key of a library: the allowed numbers or texts, or that an args file may not hold it."""

from dataclasses import dataclass
from typing import Any

MAX_COUNT = 2**31 - 1  # torch and its C libraries store many counts in 32 bits
MAX_SEED = 2**32 - 1  # limit of numpy, which set_seed of transformers seeds too
MAX_WORKERS = 256
MAX_SAMPLES_PER_PROMPT = 1000
MAX_BEAMS = 100
MAX_NUMBER = 1e6


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; with `open_low` or `open_high` that bound itself is not allowed."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, number: float) -> bool:
        above = number > self.low if self.open_low else number >= self.low
        return above and (number < self.high if self.open_high else number <= self.high)

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.open_low else f"from {self.low:g}"
        return f"{low} {'to less than' if self.open_high else 'to'} {self.high:g}"


@dataclass(frozen=True)
class KeyRule:
    """One key of a library; what is not given is as the library has it.

    refusal: for a key that an args file may not hold: what the error message says, or "" for the words on an unknown
    key. only_false: why the key may not be true. range: of the number, or of each number in the list. values: the
    allowed ones, of the key itself or of each item of the list. pattern: of the text. allowed: how an error message
    lists them. types (JSON types, separated by spaces), meaning and default: `...` is what the library has.
    """

    refusal: str | None = None
    only_false: str = ""
    range: Range | None = None
    values: tuple = ()
    pattern: str = ""
    allowed: str = ""
    types: Any = ...
    meaning: Any = ...
    default: Any = ...


def set_elsewhere(instead: str) -> KeyRule:
    """The rule of a key that this program sets from another one, so that no value has two sources."""
    return KeyRule(refusal=f"not allowed here; {instead}")


def in_range(low: float, high: float, open_low: bool = False, open_high: bool = False) -> KeyRule:
    return KeyRule(range=Range(low, high, open_low, open_high))


EXCLUDED = KeyRule(refusal="")
COUNT, COUNT_OR_ZERO = in_range(1, MAX_COUNT), in_range(0, MAX_COUNT)
STEPS = in_range(0, MAX_COUNT, open_low=True)  # a value below 1 is a fraction of all steps
SEED = in_range(0, MAX_SEED)
SHARE, POSITIVE_SHARE = in_range(0, 1), in_range(0, 1, open_low=True)
BELOW_ONE = in_range(0, 1, open_high=True)
POSITIVE, NOT_NEGATIVE = in_range(0, MAX_NUMBER, open_low=True), in_range(0, MAX_NUMBER)
ANY_NUMBER = in_range(-MAX_NUMBER, MAX_NUMBER)
