"""The sections about scores of replies: classifiers, the reward, and choosing the best of several replies."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from response_generator.config.library.key_rule import MAX_COUNT, MAX_NUMBER, MAX_SAMPLES_PER_PROMPT
from response_generator.config.section import ClassifierName, LanguageModelName, LocalPath, Section
from response_generator.constants import ADAPTER, BASELINE

LABELS_BY_ID, LABELS_BY_NAME = "by id", "by name"
MAX_FIT_DIALOGUES = 1000
BY_PROBABILITY, BY_REWARD = "target_probability", "reward"

# With the tags pydantic validates, and reports errors for, only the form that is given: list or object.
EmotionLabels = Annotated[
    Annotated[list[str], Tag(LABELS_BY_ID)] | Annotated[dict[str, str], Tag(LABELS_BY_NAME)],
    Discriminator(lambda labels: LABELS_BY_NAME if isinstance(labels, dict) else LABELS_BY_ID),
]


class ScoringArguments(Section):
    emotion_model: ClassifierName | None = None
    """Text-classification model (hub id or folder) that predicts which of `labels` a reply has; null: none."""
    emotion_labels: EmotionLabels | None = None
    """Which of `labels` the classifier's labels are: an object `{label: emotion}` for those with another name, or a
    list in the order of the label ids; null: all have the same names."""
    gibberish_model: ClassifierName | None = None
    """Text-classification model (hub id or folder) that tells clean text from gibberish; null: none."""
    batch_size: int = Field(default=32, ge=1)
    """Replies per batch of the classifiers."""
    clean_up_tokenization_spaces: bool = False
    """Remove the space before punctuation before classifying (`fine .` becomes `fine.`), as the authors did.
    predictions.jsonl keeps the text as it was generated."""


class FitScoringArguments(ScoringArguments):
    """What also measures how well replies fit their dialogues."""

    fit_model: LanguageModelName | None = None
    """evaluate.py and building pairs: causal language model (hub id or folder) that tells how well a reply fits its own
    dialogue; null: none. Pairs need it for `reward.fit_weight`."""
    fit_dialogues: int = Field(default=7, ge=1, le=MAX_FIT_DIALOGUES)
    """Other dialogues with the same target in which `fit_model` also tries a reply. They are drawn with `seed`."""


class EvaluationScoringArguments(FitScoringArguments):
    """What evaluate.py also measures of the replies."""

    second_emotion_model: ClassifierName | None = None
    """evaluate.py: another text-classification model (hub id or folder) that predicts which of `labels` a reply has. It
    is only reported, beside `emotion_model`; null: none."""
    second_emotion_labels: EmotionLabels | None = None
    """evaluate.py: what `emotion_labels` is, for `second_emotion_model`."""
    emotion_words: LocalPath | None = None
    """evaluate.py: JSON file of the words that name each of `labels` but the neutral one, an object `{label: [word or
    phrase, …]}`; null: the program's own, `response_generator/scoring/emotion_words.json`, for the seven emotions."""


class RewardArguments(Section):
    """The reward of a reply: emotion_weight x emotion + length_weight x length + gibberish_weight x gibberish + bias
    + fit_weight x fit, less naming_penalty if the reply names its emotion.

    The defaults are those of the original recipe's code, which has neither fit nor penalty.
    """

    emotion_weight: float = Field(default=0.4, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Weight of the emotion's part: `confidence_scale` x confidence if the label is the target emotion, else 0."""
    length_weight: float = Field(default=0.25, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Weight of the length's part."""
    gibberish_weight: float = Field(default=0.35, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Weight of the gibberish label's part: `confidence_scale` x confidence for `clean`."""
    bias: float = Field(default=0.001, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Constant part."""
    naming_penalty: float = Field(default=0.0, ge=0, le=MAX_NUMBER)
    """What is subtracted if the reply has a word that names its target emotion, such as "happy"; none names the neutral
    one."""
    emotion_words: LocalPath | None = None
    """JSON file of these words, as in `scoring.emotion_words` of evaluate.py; null: the program's own."""
    fit_weight: float = Field(default=0.0, ge=0, le=MAX_NUMBER)
    """Weight of the reply's fit to its dialogue, in nats a token, which `scoring.fit_model` measures. Only where pairs
    are built, not in `best_of`."""
    confidence_scale: float = Field(default=10.0, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """What a classifier's confidence is multiplied by."""
    mild_gibberish_scale: float = Field(default=0.5, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """The same for the label `mild gibberish`: 0.5 in the original's code, 5 in its description."""
    other_gibberish_offset: float = Field(default=-2.0, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Added to the confidence of every other gibberish label."""
    min_characters: int = Field(default=5, ge=1, le=MAX_COUNT)
    """Length that a reply should have at least; the length's part is about 0 up to twice as many characters."""
    max_characters: int = Field(default=20, ge=1, le=MAX_COUNT)
    """Length that a reply should have at most; the length's part grows up to twice as many characters, then falls."""


class BestOfArguments(Section):
    """Sampling several replies and keeping the best one, in a chat."""

    samples: int = Field(default=6, ge=2, le=MAX_SAMPLES_PER_PROMPT)
    """Replies that are sampled, of which the best one is kept. Needs `generation.do_sample: true`."""
    choose_by: Literal[BY_PROBABILITY, BY_REWARD] = BY_PROBABILITY
    """`target_probability`: the best reply is the one to which the emotion classifier gives the target label with the
    greatest probability; `reward`: the one with the greatest reward. The first of equal ones."""
    scoring: ScoringArguments = ScoringArguments()
    """The classifiers that choose. They may not be those of the section `scoring`, which evaluate the replies."""
    reward: RewardArguments | None = None
    """The reward, for `choose_by: "reward"`; null: with the defaults of its keys."""


def check_models(models: list[str]) -> list[str]:
    if not models or len(set(models)) < len(models):
        raise ValueError("needed: one or more different models; or null for all of the run")
    return models


class EvaluationBestOfArguments(BestOfArguments):
    """The same in an evaluation."""

    models: Annotated[list[Literal[BASELINE, ADAPTER]], AfterValidator(check_models)] | None = None
    """The models of which there is also a row with the best of their replies; null: all that the run has. Only in
    evaluate.py."""
