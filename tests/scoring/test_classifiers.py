"""The texts that classifiers get, and the mapping of their labels."""

import pytest
from tiny_models import write_tiny_classifier

from response_generator.config.schema import ScoringArguments
from response_generator.constants import EMOTIONS
from response_generator.errors import InputError
from response_generator.scoring.classifiers import (
    check_classifiers,
    load_emotion_classifier,
    load_gibberish_classifier,
)


def build_scoring(tiny, **changes) -> ScoringArguments:
    models = {name: str(tiny.folder / name.removesuffix("_model")) for name in ("emotion_model", "gibberish_model")}
    return ScoringArguments(**models | changes)


def test_replies_are_cleaned_up_if_the_args_say_so(tiny):
    unchanged, cleaned_up = build_scoring(tiny), build_scoring(tiny, clean_up_tokenization_spaces=True)
    tokenized, plain = "fine . Let ' s go , I do n't mind !", "fine. Let's go, I don't mind!"
    for load in (load_emotion_classifier, load_gibberish_classifier):
        assert load(cleaned_up).classify([tokenized]) == load(unchanged).classify([plain])
        assert load(unchanged).classify([tokenized]) != load(unchanged).classify([plain])


def test_labels_are_mapped_by_name(tiny, tmp_path):
    labels = tuple("joy" if emotion == "happiness" else emotion for emotion in EMOTIONS)
    write_tiny_classifier(tmp_path, tiny.folder / "base", labels)
    unmapped = build_scoring(tiny, emotion_model=str(tmp_path))
    with pytest.raises(InputError, match="its labels are neutral, anger, disgust, fear, joy"):
        check_classifiers(unmapped)
    mapped = unmapped.model_copy(update={"emotion_labels": {"joy": "happiness"}})
    check_classifiers(mapped)
    (result,) = load_emotion_classifier(mapped).classify(["I got the job !"])
    assert list(result.probabilities) == list(EMOTIONS)
    with pytest.raises(InputError, match="scoring.emotion_labels: got joy; allowed: the labels of"):
        check_classifiers(build_scoring(tiny, emotion_labels={"joy": "happiness"}))
