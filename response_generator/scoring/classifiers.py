"""Runs the classifiers that the section scoring names on replies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from response_generator.config.scoring_schema import ScoringArguments
from response_generator.config.source_list import list_sources
from response_generator.config.sources import SourceKind, from_pretrained_keywords
from response_generator.errors import InputError
from response_generator.generation.oom import split_on_oom
from response_generator.labels import Labels
from response_generator.scoring.calibration import read_calibration

# The key that maps the labels of each emotion classifier.
EMOTION_LABELS = {"emotion_model": "emotion_labels", "second_emotion_model": "second_emotion_labels"}
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
    classifiers = [source for source in list_sources(scoring) if source.kind is SourceKind.CLASSIFIER]
    for source in classifiers:
        try:
            read_label_names(source.name)
            AutoTokenizer.from_pretrained(**from_pretrained_keywords(source.name))
        except Exception as error:  # the library tokenizers raises a plain Exception
            raise InputError(f"scoring.{source.key}: {source.name}: {describe_load_error(error)}") from error
        try:
            read_calibration(source.name, read_label_names(source.name))
        except InputError as error:
            raise InputError(f"scoring.{source.key}: {error}") from error
    for source in classifiers:
        if source.key in EMOTION_LABELS:
            check_emotion_labels(scoring, labels, source.key)


def check_emotion_labels(scoring: ScoringArguments, labels: Labels, key: str) -> None:
    """An emotion classifier must know each label of the run and no other: a reply could have none of the run's labels.

    Raises:
        InputError: when the labels, after their mapping, are not those of the run.
    """
    names = dict.fromkeys(map_emotion_labels(scoring, key))
    lacking = [name for name in labels.names if name not in names]
    unknown = [name for name in names if name not in labels.names]
    if lacking or unknown:
        differences = [f"it lacks {len(lacking)}: {', '.join(lacking)}"] if lacking else []
        differences += [f"{len(unknown)} are no labels of the run: {', '.join(unknown)}"] if unknown else []
        raise InputError(
            f"scoring.{key}: {getattr(scoring, key)}: its labels are {', '.join(names)}; needed: "
            f"{', '.join(labels.names)} ({'; '.join(differences)}); map them with scoring.{EMOTION_LABELS[key]}, by "
            f"name or with a list in the order of its class ids, or set labels"
        )


def describe_load_error(error: Exception) -> str:
    if "trust_remote_code" in str(error):  # transformers has no exception class of its own for this
        return "needs Python code of its own, which is never run; needed: a model of one of transformers' classes"
    return f"cannot be loaded ({error}); download it again"


def map_emotion_labels(scoring: ScoringArguments, key: str = "emotion_model") -> list[str]:
    """Returns the label for each class id of an emotion classifier, after the mapping of `scoring.emotion_labels`, or
    of `scoring.second_emotion_labels`.

    Raises:
        InputError: when the mapping does not match the classifier's labels.
    """
    model, mapping = getattr(scoring, key), getattr(scoring, EMOTION_LABELS[key])
    labels = read_label_names(model)
    if mapping is None:
        return labels
    if isinstance(mapping, dict):
        unknown = sorted(set(mapping) - set(labels))
        if unknown:
            raise InputError(
                f"scoring.{EMOTION_LABELS[key]}: got {', '.join(unknown)}; allowed: the labels of {model}: "
                f"{', '.join(labels)}; null if these are labels of the run"
            )
        return [mapping.get(label, label) for label in labels]
    if len(mapping) != len(labels):
        raise InputError(
            f"scoring.{EMOTION_LABELS[key]}: got {len(mapping)} names; needed: {len(labels)}, one for each label of "
            f"{model}: {', '.join(labels)}"
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
        self.calibration = read_calibration(model, read_label_names(model))

    def classify(self, texts: Sequence[str], task: str | None = None) -> list[LabelProbs]:
        """Labels every text.

        Args:
            task: the title of a progress bar; without one there is no bar.
        """
        results = []
        size = self.scoring.batch_size
        with tqdm(total=len(texts), desc=task, unit="reply", dynamic_ncols=True, disable=task is None) as bar:
            for start in range(0, len(texts), size):
                results += split_on_oom(self.classify_batch, texts[start : start + size])
                bar.update(len(results) - bar.n)
        return results

    def classify_different(self, texts: Iterable[str], task: str) -> dict[str, LabelProbs]:
        """Labels each different text once, short ones first, so that a batch has little padding. A batch holds at least
        `batch_size` texts, and as many as have no more characters than `batch_size` texts like the longest one.

        Args:
            task: the title of the progress bar.

        Returns:
            The label probabilities by text.
        """
        different = sorted(set(texts), key=lambda text: (len(text), text))
        most = self.scoring.batch_size * max(map(len, different), default=0)
        results: list[LabelProbs] = []
        with tqdm(total=len(different), desc=task, unit="text", dynamic_ncols=True) as bar:
            while len(results) < len(different):
                start, size = len(results), self.scoring.batch_size
                while start + size < len(different) and (size + 1) * len(different[start + size]) <= most:
                    size += 1
                results += split_on_oom(self.classify_batch, different[start : start + size])
                bar.update(len(results) - bar.n)
        return dict(zip(different, results, strict=True))

    def classify_batch(self, texts: Sequence[str]) -> list[LabelProbs]:
        if self.scoring.clean_up_tokenization_spaces:
            texts = [self.tokenizer.clean_up_tokenization(text) for text in texts]
        batch = self.tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=True, max_length=MAX_CLASSIFIED_TOKENS
        )
        with torch.inference_mode():
            logits = self.model(**batch.to(self.device)).logits
        probabilities = logits.softmax(-1)
        if self.calibration:
            probabilities = self.calibration.compute_probabilities(logits.double().cpu().numpy())
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


def load_emotion_classifier(scoring: ScoringArguments, key: str = "emotion_model") -> TextClassifier | None:
    """None where the args name none; the same below."""
    model = getattr(scoring, key)
    return None if model is None else TextClassifier(model, map_emotion_labels(scoring, key), scoring)


def load_gibberish_classifier(scoring: ScoringArguments) -> TextClassifier | None:
    if scoring.gibberish_model is None:
        return None
    return TextClassifier(scoring.gibberish_model, read_label_names(scoring.gibberish_model), scoring)


CLASSIFIERS = {  # by their keys
    "emotion_model": load_emotion_classifier,
    "gibberish_model": load_gibberish_classifier,
    "second_emotion_model": partial(load_emotion_classifier, key="second_emotion_model"),
}
