"""A reply of the model, with how it was made and what the classifiers say of it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from response_generator.config.scoring_schema import BY_PROBABILITY

# Called with the name of the adapter and the next part of its reply, while this is written.
ShowText = Callable[[str, str], None]


class ReplyStopped(Exception):
    """Raised by a ShowText to stop the reply."""


@dataclass(frozen=True)
class FoundLabels:
    """What the classifiers find in a reply, None without a classifier; the names are those of predictions.jsonl."""

    predicted_emotion: str | None
    emotion_score: float | None
    target_probability: float | None
    gibberish_label: str | None
    gibberish_score: float | None


@dataclass(frozen=True)
class Choice:
    """Why a reply is the best of several: `score` is the greatest of `samples`, by the section best_of of the args."""

    samples: int
    choose_by: str
    score: float

    def describe(self) -> str:
        of_target = "target probability by the choosing classifier"
        return f"best of {self.samples}, {of_target if self.choose_by == BY_PROBABILITY else 'reward'} {self.score:.2f}"


@dataclass(frozen=True)
class Reply:
    """A finished reply.

    seed: the reply is the same again with the same dialogue, adapter, target emotion and seed. left_out_turns: turns at
    the start of the dialogue that the model did not see, because its context is too short. labels: None without
    classifiers. target_emotion: None without labels of the run. choice: None where no other reply was sampled.
    """

    adapter: str
    target_emotion: str | None
    seed: int
    response: str
    new_tokens: int
    hit_max_new_tokens: bool
    left_out_turns: int
    labels: FoundLabels | None
    choice: Choice | None = None

    @property
    def is_followed(self) -> bool | None:
        """Whether the reply has the target emotion according to the classifier; None without one."""
        if self.labels is None or self.labels.predicted_emotion is None:
            return None
        return self.labels.predicted_emotion == self.target_emotion

    def describe(self) -> str:
        """The facts about a reply in one line."""
        target, labels = f"target {self.target_emotion}", self.labels
        if self.is_followed is None:
            facts = [target] if self.target_emotion else []
        elif self.is_followed:
            facts = [f"{target} followed ({labels.target_probability:.2f})"]
        else:
            facts = [
                f"{target} not followed ({labels.target_probability:.2f}), "
                f"it is {labels.predicted_emotion} ({labels.emotion_score:.2f})"
            ]
        if labels and labels.gibberish_label is not None:
            facts.append(f"{labels.gibberish_label} ({labels.gibberish_score:.2f})")
        facts += [self.choice.describe()] if self.choice else []
        facts += [f"{self.new_tokens} tokens", f"seed {self.seed}"]
        if self.hit_max_new_tokens:
            facts.append("cut off by max_new_tokens")
        if self.left_out_turns:
            facts.append(f"without the oldest {self.left_out_turns} turns, for which the context is too short")
        return "; ".join(facts)

    def to_record(self) -> dict[str, Any]:
        """The reply as JSON, with the labels beside its other fields."""
        record = asdict(self)
        labels, choice = record.pop("labels"), record.pop("choice")
        return record | (labels or {}) | ({"best_of": choice} if choice else {})
