"""What the classifiers and the last character say of each reply."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from response_generator.arguments import ScoringArguments
from response_generator.emotions import EMOTIONS
from response_generator.errors import InputError

SENTENCE_ENDS = (".", "!", "?")
MAX_CLASSIFIED_TOKENS = 512  # what BERT-like classifiers take; a reply is far shorter


@dataclass(frozen=True)
class Verdict:
    label: str
    score: float  # the classifier's probability of its label


def check_emotion_labels(scoring: ScoringArguments) -> None:
    """Raises InputError when the emotion classifier speaks of other labels than the seven emotions."""
    names = emotion_labels(scoring)
    if set(names) != set(EMOTIONS):
        raise InputError(
            f"scoring.emotion_model: {scoring.emotion_model}: its labels are {', '.join(names)}; needed: "
            f"{', '.join(EMOTIONS)}; map them, in the order of its ids, with scoring.emotion_labels"
        )


def emotion_labels(scoring: ScoringArguments) -> list[str]:
    own = label_names(scoring.emotion_model)
    if scoring.emotion_labels is None:
        return own
    if len(scoring.emotion_labels) != len(own):
        raise InputError(f"scoring.emotion_labels: {len(scoring.emotion_labels)} names for {len(own)} labels")
    return list(scoring.emotion_labels)


def label_names(model: str) -> list[str]:
    names = AutoConfig.from_pretrained(model).id2label
    return [names[number] for number in range(len(names))]


def classify(texts: Sequence[str], model: str, names: list[str], batch_size: int, task: str) -> list[Verdict]:
    """Runs a text-classification model over `texts`; `names` are its labels in the order of their ids."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).to(device).eval()
    verdicts = []
    with tqdm(total=len(texts), desc=task, unit="reply", dynamic_ncols=True) as bar:
        for start in range(0, len(texts), batch_size):
            some = list(texts[start : start + batch_size])
            batch = tokenizer(
                some, return_tensors="pt", padding=True, truncation=True, max_length=MAX_CLASSIFIED_TOKENS
            )
            with torch.inference_mode():
                probabilities = classifier(**batch.to(device)).logits.softmax(-1)
            best = probabilities.max(-1)
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            verdicts += [Verdict(names[label], score) for label, score in pairs]
            bar.update(len(some))
    return verdicts


def emotions_of(texts: Sequence[str], scoring: ScoringArguments) -> list[Verdict]:
    return classify(texts, scoring.emotion_model, emotion_labels(scoring), scoring.batch_size, "emotion")


def gibberish_of(texts: Sequence[str], scoring: ScoringArguments) -> list[Verdict]:
    names = label_names(scoring.gibberish_model)
    return classify(texts, scoring.gibberish_model, names, scoring.batch_size, "gibberish")


def is_complete(response: str) -> bool:
    """Ends a sentence: `.`, `!` or `?`, closing quotes and spaces after it allowed."""
    return response.rstrip(" \n\"'").endswith(SENTENCE_ENDS)
