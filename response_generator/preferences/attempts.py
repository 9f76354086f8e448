"""One attempt at a prompt: its candidates, their scores, and the pairs that come out of it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.scoring_schema import RewardArguments
from response_generator.data.datasets import Dialogue, Pair, ReplyLabels
from response_generator.preferences.filters import find_failed_filter
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.emotion_words import EmotionWords
from response_generator.scoring.reward import compute_reward
from response_generator.scoring.rules import ends_with_punctuation

SAME_REPLIES = "all replies are the same"
DECIMALS = 4  # of scores in files; every decision uses the rounded scores

# Of the emotion classifier and of the gibberish classifier; None without that classifier.
LabelPair = tuple[LabelProbs | None, LabelProbs | None]


@dataclass(frozen=True)
class Candidate:
    """A reply with its score and the classifiers' labels and probabilities; None without a classifier."""

    text: str
    reward: float
    emotion: str | None
    emotion_score: float | None
    gibberish_label: str | None
    gibberish_score: float | None

    @classmethod
    def of(
        cls, text: str, labels: LabelPair, target: str, reward: RewardArguments, penalized: EmotionWords
    ) -> "Candidate":
        emotion, gibberish = labels
        return cls(
            text,
            round(compute_reward(text, emotion, gibberish, target, reward, penalized), DECIMALS),
            *describe_label(emotion),
            *describe_label(gibberish),
        )


def describe_label(found: LabelProbs | None) -> tuple[str | None, float | None]:
    return (found.label, round(found.score, DECIMALS)) if found else (None, None)


@dataclass(frozen=True)
class Attempt:
    """What one attempt gave. `failure` is the filter that its best and worst candidate did not pass; None if at least
    one pair passed all filters. Without scores, `texts` alone are known: the attempt failed before it was classified.
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


def find_early_failure(texts: Sequence[str], args: PreferenceDataArguments) -> str | None:
    """Why no pair of these candidates can pass the filters, whatever their scores are; None if one may."""
    distinct = {text for text in texts if text}
    if len(distinct) < (1 if args.gold_as_chosen else 2):
        return SAME_REPLIES
    filters = args.filters
    if (
        filters.chosen_ends_with_punctuation
        and not args.gold_as_chosen
        and not any(map(ends_with_punctuation, distinct))
    ):
        return "chosen_ends_with_punctuation"
    return None


def score_attempt(
    dialogue: Dialogue,
    texts: Sequence[str],
    labels: dict[str, LabelPair],
    args: PreferenceDataArguments,
    penalized: EmotionWords,
) -> Attempt:
    """Scores the candidates of an attempt and finds out whether a pair of them passes the filters.

    Args:
        labels: by text; of all candidates and, with `gold_as_chosen`, of the gold reply.
        penalized: see `reward.read_penalized_words`.
    """

    def score(text: str) -> Candidate:
        return Candidate.of(text, labels[text], dialogue.target_emotion, args.reward, penalized)

    candidates = [score(text) for text in texts if text]
    gold = score(dialogue.gold_response) if args.gold_as_chosen else None
    attempt = Attempt(list(texts), candidates, gold, None)
    if select_pairs(dialogue, attempt, args):
        return attempt
    best, worst = find_best_and_worst(attempt)
    failure = find_failed_filter(to_pair(dialogue, best, worst), args.filters, args.label_set) or SAME_REPLIES
    return Attempt(list(texts), candidates, gold, failure)


def select_pairs(dialogue: Dialogue, attempt: Attempt, args: PreferenceDataArguments) -> list[Pair]:
    """The pairs of an attempt that pass the filters: of the best and the worst candidate, or of every two, or of these
    the one with the greatest margin, the first of equal ones."""
    if args.pair_selection == "best_worst":
        selected: Iterable[tuple[Candidate, Candidate]] = [find_best_and_worst(attempt)]
    else:
        distinct = list({each.text: each for each in attempt.candidates}.values())
        chosen = [attempt.gold] if attempt.gold else distinct
        selected = [(one, other) for one in chosen for other in distinct if attempt.gold or one.reward > other.reward]
    pairs = [to_pair(dialogue, chosen, rejected) for chosen, rejected in selected if chosen.text != rejected.text]
    passing = [pair for pair in pairs if find_failed_filter(pair, args.filters, args.label_set) is None]
    return passing if args.pair_selection == "all" else sorted(passing, key=lambda pair: -pair.margin)[:1]


def find_best_and_worst(attempt: Attempt) -> tuple[Candidate, Candidate]:
    """The candidates with the greatest and the least reward, the first of equal ones; the gold reply counts as best."""
    best = attempt.gold or max(attempt.candidates, key=lambda each: each.reward)
    return best, min(attempt.candidates, key=lambda each: each.reward)


def to_pair(dialogue: Dialogue, chosen: Candidate, rejected: Candidate) -> Pair:
    labels = ReplyLabels(chosen.emotion, chosen.gibberish_label, chosen.gibberish_score)
    contents = [{"emotion": dialogue.target_emotion, "dialog": each.text} for each in (chosen, rejected)]
    return Pair(dialogue.index, dialogue.history, *contents, chosen.reward, rejected.reward, labels)
