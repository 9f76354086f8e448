"""What the classifiers and the last character say of each reply."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from response_generator.config.schema import ScoringArguments
from response_generator.config.sources import from_pretrained_keywords
from response_generator.constants import EMOTIONS
from response_generator.errors import InputError
from response_generator.generation.oom import split_on_oom

MAX_CLASSIFIED_TOKENS = 512  # what BERT-like classifiers take; a reply is far shorter


@dataclass(frozen=True)
class LabelProbs:
    """The classifier's probability of every label."""

    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def score(self) -> float:
        return self.probabilities[self.label]


def check_classifiers(scoring: ScoringArguments) -> None:
    """Reads all of both classifiers but their weights: replies take hours, and are judged at the end.

    Raises:
        InputError: when one cannot be read, or the emotion classifier speaks of other labels than the seven emotions.
    """
    for key in ("emotion_model", "gibberish_model"):
        name = getattr(scoring, key)
        try:
            read_label_names(name)
            AutoTokenizer.from_pretrained(**from_pretrained_keywords(name))
        except Exception as error:  # tokenizers' own is a bare one
            raise InputError(f"scoring.{key}: {name}: cannot be loaded ({error}); fetch it again") from error
    names = map_emotion_labels(scoring)
    if set(names) != set(EMOTIONS):
        raise InputError(
            f"scoring.emotion_model: {scoring.emotion_model}: its labels are {', '.join(names)}; needed: "
            f"{', '.join(EMOTIONS)}; map them with scoring.emotion_labels, by name or in the order of its ids"
        )


def map_emotion_labels(scoring: ScoringArguments) -> list[str]:
    """The emotion of each of the classifier's ids; where the args map them, as they say."""
    own, mapped = read_label_names(scoring.emotion_model), scoring.emotion_labels
    if mapped is None:
        return own
    if isinstance(mapped, dict):
        unknown = sorted(set(mapped) - set(own))
        if unknown:
            raise InputError(
                f"scoring.emotion_labels: {', '.join(unknown)}: no label of {scoring.emotion_model}; it has "
                f"{', '.join(own)}"
            )
        return [mapped.get(name, name) for name in own]
    if len(mapped) != len(own):
        raise InputError(
            f"scoring.emotion_labels: {len(mapped)} names for {len(own)} labels of {scoring.emotion_model}: "
            f"{', '.join(own)}"
        )
    return list(mapped)


def read_label_names(model: str) -> list[str]:
    names = AutoConfig.from_pretrained(**from_pretrained_keywords(model)).id2label
    return [names[number] for number in range(len(names))]


def classify(
    texts: Sequence[str], model: str, names: list[str], scoring: ScoringArguments, task: str
) -> list[LabelProbs]:
    """Runs a text-classification model over `texts`.

    Args:
        names: the label of each of its ids; ids of one name are one label, with their probabilities added.
        scoring: says how many texts at once, and whether "fine ." is shown to the model as "fine.".
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(**from_pretrained_keywords(model))
    classifier = AutoModelForSequenceClassification.from_pretrained(
        **from_pretrained_keywords(model), dtype=torch.float32
    )
    classifier = classifier.to(device).eval()

    if scoring.clean_up_tokenization_spaces:
        texts = [tokenizer.clean_up_tokenization(text) for text in texts]

    def verdicts_on(some: Sequence[str]) -> list[LabelProbs]:
        batch = tokenizer(
            list(some), return_tensors="pt", padding=True, truncation=True, max_length=MAX_CLASSIFIED_TOKENS
        )
        with torch.inference_mode():
            probabilities = classifier(**batch.to(device)).logits.softmax(-1)
        return [to_label_probs(names, row) for row in probabilities.tolist()]

    verdicts = []
    with tqdm(total=len(texts), desc=task, unit="reply", dynamic_ncols=True) as bar:
        for start in range(0, len(texts), scoring.batch_size):
            verdicts += split_on_oom(verdicts_on, texts[start : start + scoring.batch_size])
            bar.update(len(verdicts) - bar.n)
    return verdicts


def to_label_probs(names: list[str], probabilities: list[float]) -> LabelProbs:
    of_label = dict.fromkeys(names, 0.0)
    for name, probability in zip(names, probabilities, strict=True):
        of_label[name] += probability
    return LabelProbs(of_label)


def classify_emotions(texts: Sequence[str], scoring: ScoringArguments) -> list[LabelProbs]:
    return classify(texts, scoring.emotion_model, map_emotion_labels(scoring), scoring, "emotion")


def classify_gibberish(texts: Sequence[str], scoring: ScoringArguments) -> list[LabelProbs]:
    return classify(texts, scoring.gibberish_model, read_label_names(scoring.gibberish_model), scoring, "gibberish")
