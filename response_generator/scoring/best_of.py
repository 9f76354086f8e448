"""Chooses the best of several replies to a prompt."""

import re
from collections.abc import Sequence

from response_generator.config.scoring_schema import BY_PROBABILITY, BestOfArguments, RewardArguments
from response_generator.errors import InputError
from response_generator.labels import Labels
from response_generator.scoring import classifiers
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.emotion_words import EmotionWords
from response_generator.scoring.reward import compute_reward, read_penalized_words

DECIMALS = 6  # of the scores that are compared: a batch of another size changes the last digits


def check_choosing_classifiers(best_of: BestOfArguments, labels: Labels) -> None:
    """The same as `classifiers.check_classifiers`, whose messages begin with the key."""
    try:
        classifiers.check_classifiers(best_of.scoring, labels)
    except InputError as error:
        named = [re.sub(r"(?<![\w/.-])scoring\.", "best_of.scoring.", message) for message in error.messages]
        raise InputError(*named) from error


class ReplyScorer:
    """The classifiers that choose, loaded once."""

    def __init__(self, best_of: BestOfArguments, labels: Labels):
        self.best_of = best_of
        self.penalized = read_penalized_words(best_of.reward or RewardArguments(), labels)
        self.emotions = classifiers.load_emotion_classifier(best_of.scoring)
        self.gibberish = classifiers.load_gibberish_classifier(best_of.scoring)

    def score(self, texts: Sequence[str], targets: Sequence[str | None]) -> list[float]:
        """The score of each reply, which has a target of its own. The same text is classified once."""
        distinct = list(dict.fromkeys(texts))
        found = (classifiers.classify(each, distinct) for each in (self.emotions, self.gibberish))
        labels = dict(zip(distinct, zip(*found, strict=True), strict=True))
        return [
            score_reply(text, *labels[text], target, self.best_of, self.penalized)
            for text, target in zip(texts, targets, strict=True)
        ]


def score_reply(
    text: str,
    emotion: LabelProbs | None,
    gibberish: LabelProbs | None,
    target: str | None,
    best_of: BestOfArguments,
    penalized: EmotionWords,
) -> float:
    """What the replies to a prompt are compared by.

    Args:
        penalized: see `reward.read_penalized_words`.
    """
    if best_of.choose_by == BY_PROBABILITY:
        return round(emotion.probabilities[target], DECIMALS)
    reward = best_of.reward or RewardArguments()
    return round(compute_reward(text, emotion, gibberish, target, reward, penalized), DECIMALS)


def choose_best(texts: Sequence[str], scores: Sequence[float]) -> int:
    """The place of the reply with the greatest score, the first of equal ones. One without text is worse than all
    others, whatever the classifiers say of it."""
    return max(range(len(texts)), key=lambda place: (bool(texts[place]), scores[place]))
