"""One attempt at a prompt: its candidates with their scores."""

from dataclasses import asdict, dataclass
from typing import Any

from response_generator.config.scoring_schema import RewardArguments
from response_generator.data.datasets import Dialogue, Pair, ReplyLabels
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.emotion_words import EmotionWords
from response_generator.scoring.reward import compute_reward

DECIMALS = 4  # of scores in files; every decision uses the rounded scores

# Of the emotion classifier and of the gibberish classifier; None without that classifier.
LabelPair = tuple[LabelProbs | None, LabelProbs | None]


@dataclass(frozen=True)
class Candidate:
    """A reply with its score, the classifiers' labels and probabilities, and its fit to the dialogue; None without a
    classifier or a model for the fit."""

    text: str
    reward: float
    emotion: str | None
    emotion_score: float | None
    gibberish_label: str | None
    gibberish_score: float | None
    fit: float | None = None

    @classmethod
    def of(
        cls,
        text: str,
        labels: LabelPair,
        target: str | None,
        reward: RewardArguments,
        penalized: EmotionWords,
        fit: float | None,
    ) -> "Candidate":
        emotion, gibberish = labels
        return cls(
            text,
            round(compute_reward(text, emotion, gibberish, target, reward, penalized, fit or 0.0), DECIMALS),
            *describe_label(emotion),
            *describe_label(gibberish),
            None if fit is None else round(fit, DECIMALS),
        )


def describe_label(found: LabelProbs | None) -> tuple[str | None, float | None]:
    return (found.label, round(found.score, DECIMALS)) if found else (None, None)


@dataclass(frozen=True)
class Attempt:
    """What one attempt gave. `failure` is the filter that its best and worst candidate did not pass, or what else was
    missing; None if it has a pair. Without scores, `texts` alone are known: the attempt failed before all were known.
    """

    texts: list[str]
    candidates: list[Candidate]
    gold: Candidate | None
    failure: str | None

    def to_record(self) -> dict[str, Any]:
        if not self.candidates:
            return {"failure": self.failure, "texts": self.texts}
        gold = {"gold": asdict(self.gold)} if self.gold else {}
        return {"failure": self.failure, "candidates": [asdict(each) for each in self.candidates]} | gold

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Attempt":
        candidates = [Candidate(**each) for each in record.get("candidates", [])]
        gold = Candidate(**record["gold"]) if "gold" in record else None
        return cls(record.get("texts", [each.text for each in candidates]), candidates, gold, record["failure"])


def find_best_and_worst(attempt: Attempt) -> tuple[Candidate, Candidate]:
    """The candidates with the greatest and the least reward, the first of equal ones; the gold reply counts as best."""
    best = attempt.gold or max(attempt.candidates, key=lambda each: each.reward)
    return best, min(attempt.candidates, key=lambda each: each.reward)


def to_pair(dialogue: Dialogue, chosen: Candidate, rejected: Candidate) -> Pair:
    labels = ReplyLabels(chosen.emotion, chosen.gibberish_label, chosen.gibberish_score)
    contents = [{"emotion": dialogue.target_emotion, "dialog": each.text} for each in (chosen, rejected)]
    scores = chosen.reward, rejected.reward
    return Pair(dialogue.index, dialogue.history, *contents, *scores, labels, False, chosen.fit, rejected.fit)
