"""Runs the classifiers that the section scoring names on replies."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from response_generator.config.scoring_schema import ScoringArguments
from response_generator.config.source_list import list_sources
from response_generator.config.sources import from_pretrained_keywords
from response_generator.errors import InputError
from response_generator.generation.oom import split_on_oom
from response_generator.labels import Labels

MAX_CLASSIFIED_TOKENS = 512  # the limit of BERT models; replies are far shorter


@dataclass(frozen=True)
class LabelProbs:
    """The probability of each label according to a classifier."""

    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def score(self) -> float:
        return self.probabilities[self.label]


def check_classifiers(scoring: ScoringArguments, labels: Labels) -> None:
    """Checks configuration and tokenizer of each classifier. Their weights are loaded only after all replies have been
    generated, which can take hours.

    Raises:
        InputError: when a classifier cannot be read, or the emotion classifier's labels are not those of the run.
    """
    for source in list_sources(scoring):
        try:
            read_label_names(source.name)
            AutoTokenizer.from_pretrained(**from_pretrained_keywords(source.name))
        except Exception as error:  # the library tokenizers raises a plain Exception
            raise InputError(f"scoring.{source.key}: {source.name}: {describe_load_error(error)}") from error
    if scoring.emotion_model is not None:
        check_emotion_labels(scoring, labels)


def check_emotion_labels(scoring: ScoringArguments, labels: Labels) -> None:
    """The classifier must know each label of the run and no other: a reply could have none of the run's labels.

    Raises:
        InputError: when the labels, after the mapping of `scoring.emotion_labels`, are not those of the run.
    """
    names = dict.fromkeys(map_emotion_labels(scoring))
    lacking = [name for name in labels.names if name not in names]
    unknown = [name for name in names if name not in labels.names]
    if lacking or unknown:
        differences = [f"it lacks {len(lacking)}: {', '.join(lacking)}"] if lacking else []
        differences += [f"{len(unknown)} are no labels of the run: {', '.join(unknown)}"] if unknown else []
        raise InputError(
            f"scoring.emotion_model: {scoring.emotion_model}: its labels are {', '.join(names)}; needed: "
            f"{', '.join(labels.names)} ({'; '.join(differences)}); map them with scoring.emotion_labels, by name or "
            f"with a list in the order of its class ids, or set labels"
        )


def describe_load_error(error: Exception) -> str:
    if "trust_remote_code" in str(error):  # transformers has no exception class of its own for this
        return "needs Python code of its own, which is never run; needed: a classifier of one of transformers' classes"
    return f"cannot be loaded ({error}); download it again"


def map_emotion_labels(scoring: ScoringArguments) -> list[str]:
    """Returns the label for each class id of the emotion classifier, after the mapping of `scoring.emotion_labels`.

    Raises:
        InputError: when the mapping does not match the classifier's labels.
    """
    labels, mapping = read_label_names(scoring.emotion_model), scoring.emotion_labels
    if mapping is None:
        return labels
    if isinstance(mapping, dict):
        unknown = sorted(set(mapping) - set(labels))
        if unknown:
            raise InputError(
                f"scoring.emotion_labels: got {', '.join(unknown)}; allowed: the labels of {scoring.emotion_model}: "
                f"{', '.join(labels)}; null if these are labels of the run"
            )
        return [mapping.get(label, label) for label in labels]
    if len(mapping) != len(labels):
        raise InputError(
            f"scoring.emotion_labels: got {len(mapping)} names; needed: {len(labels)}, one for each label of "
            f"{scoring.emotion_model}: {', '.join(labels)}"
        )
    return list(mapping)


def read_label_names(model: str) -> list[str]:
    """Reads the labels from a classifier's configuration, in the order of its class ids."""
    names = AutoConfig.from_pretrained(**from_pretrained_keywords(model)).id2label
    return [names[class_id] for class_id in range(len(names))]


def read_gibberish_labels(scoring: ScoringArguments) -> list[str]:
    """Those of the gibberish classifier; none without it."""
    return [] if scoring.gibberish_model is None else read_label_names(scoring.gibberish_model)


class TextClassifier:
    """A text classification model that is loaded once and labels any number of texts."""

    def __init__(self, model: str, names: list[str], scoring: ScoringArguments):
        """
        Args:
            names: the label of each class id. The probabilities of classes with the same label are added.
            scoring: sets the batch size, and whether "fine ." becomes "fine." before it is classified.
        """
        self.names, self.scoring = names, scoring
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(**from_pretrained_keywords(model))
        classifier = AutoModelForSequenceClassification.from_pretrained(
            **from_pretrained_keywords(model), dtype=torch.float32
        )
        self.model = classifier.to(self.device).eval()

    def classify(self, texts: Sequence[str], task: str | None = None) -> list[LabelProbs]:
        """Labels every text.

        Args:
            task: the title of a progress bar; without one there is no bar.
        """
        if self.scoring.clean_up_tokenization_spaces:
            texts = [self.tokenizer.clean_up_tokenization(text) for text in texts]
        results = []
        size = self.scoring.batch_size
        with tqdm(total=len(texts), desc=task, unit="reply", dynamic_ncols=True, disable=task is None) as bar:
            for start in range(0, len(texts), size):
                results += split_on_oom(self.classify_batch, texts[start : start + size])
                bar.update(len(results) - bar.n)
        return results

    def classify_batch(self, texts: Sequence[str]) -> list[LabelProbs]:
        batch = self.tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=True, max_length=MAX_CLASSIFIED_TOKENS
        )
        with torch.inference_mode():
            probabilities = self.model(**batch.to(self.device)).logits.softmax(-1)
        return [to_label_probs(self.names, row) for row in probabilities.tolist()]


def classify(
    classifier: TextClassifier | None, texts: Sequence[str], task: str | None = None
) -> list[LabelProbs] | list[None]:
    """Labels every text; without a classifier, each has None."""
    return classifier.classify(texts, task) if classifier else [None] * len(texts)


def to_label_probs(names: list[str], probabilities: list[float]) -> LabelProbs:
    label_probabilities = dict.fromkeys(names, 0.0)
    for name, probability in zip(names, probabilities, strict=True):
        label_probabilities[name] += probability
    return LabelProbs(label_probabilities)


def load_emotion_classifier(scoring: ScoringArguments) -> TextClassifier | None:
    """None where the args name none; the same below."""
    if scoring.emotion_model is None:
        return None
    return TextClassifier(scoring.emotion_model, map_emotion_labels(scoring), scoring)


def load_gibberish_classifier(scoring: ScoringArguments) -> TextClassifier | None:
    if scoring.gibberish_model is None:
        return None
    return TextClassifier(scoring.gibberish_model, read_label_names(scoring.gibberish_model), scoring)


CLASSIFIERS = {"emotion_model": load_emotion_classifier, "gibberish_model": load_gibberish_classifier}  # by their keys
