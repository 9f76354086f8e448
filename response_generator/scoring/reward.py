"""The reward of a reply, by which the candidates of a prompt are compared: the formula of the original recipe, the fit
to the dialogue, and a penalty for replies that name their emotion where they should show it."""

from response_generator.config.scoring_schema import RewardArguments
from response_generator.constants import CLEAN
from response_generator.labels import Labels
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.emotion_words import EmotionWords, names_emotion, read_emotion_words

MILD_GIBBERISH = "mild gibberish"
SHORT_SCALE, FITTING_SCALE, LONG_SCALE = 0.0001, 10.0, 0.9  # of the length's part


def read_penalized_words(reward: RewardArguments, labels: Labels) -> EmotionWords:
    """The words that cost `naming_penalty`, by label; none without a penalty."""
    return (read_emotion_words(reward.emotion_words, labels) or {}) if reward.naming_penalty else {}


def compute_reward(
    text: str,
    emotion: LabelProbs | None,
    gibberish: LabelProbs | None,
    target: str | None,
    reward: RewardArguments,
    penalized: EmotionWords,
    fit: float = 0.0,
) -> float:
    """The weighted sum of the parts, less the penalty; without a classifier, its part is 0.

    Args:
        penalized: see `read_penalized_words`.
        fit: to the dialogue, in nats a token; see `fit.FitMeter`.
    """
    penalty = reward.naming_penalty if names_emotion(penalized, text, target) else 0.0
    return (
        reward.emotion_weight * score_emotion(emotion, target, reward)
        + reward.length_weight * score_length(len(text), reward.min_characters, reward.max_characters)
        + reward.gibberish_weight * score_gibberish(gibberish, reward)
        + reward.bias
        + reward.fit_weight * fit
        - penalty
    )


def score_emotion(emotion: LabelProbs | None, target: str | None, reward: RewardArguments) -> float:
    return reward.confidence_scale * emotion.score if emotion and emotion.label == target else 0.0


def score_gibberish(gibberish: LabelProbs | None, reward: RewardArguments) -> float:
    if gibberish is None:
        return 0.0
    if gibberish.label == CLEAN:
        return reward.confidence_scale * gibberish.score
    if gibberish.label == MILD_GIBBERISH:
        return reward.mild_gibberish_scale * gibberish.score
    return gibberish.score + reward.other_gibberish_offset


def score_length(characters: int, min_characters: int, max_characters: int) -> float:
    """The length's part: nearly 0 below twice `min_characters`, then growing up to twice `max_characters`, where it
    falls to 0.9 and grows slowly again."""
    above_min = (characters - min_characters) / min_characters
    above_max = (characters - max_characters) / max_characters
    if abs(above_min) < 1:
        return SHORT_SCALE * above_min
    if abs(above_min) > 1 > abs(above_max):
        return FITTING_SCALE * abs(above_min + above_max)
    return LONG_SCALE * above_max
