"""The texts that classifiers get, the mapping of their labels, and classifiers with code of their own."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from tiny_models import EMOTION_LABELS, write_tiny_classifier

from response_generator.config.scoring_schema import EvaluationScoringArguments, ScoringArguments
from response_generator.errors import InputError
from response_generator.labels import DAILY_DIALOG_EMOTIONS, Labels
from response_generator.scoring.classifiers import (
    CLASSIFIERS,
    check_classifiers,
    classify,
    load_emotion_classifier,
    load_gibberish_classifier,
    to_label_probs,
)
from response_generator.scoring.words import list_starts
from response_generator.training.text_classifier import load_for_training


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
    labels = tuple("joy" if emotion == "happiness" else emotion for emotion in DAILY_DIALOG_EMOTIONS)
    write_tiny_classifier(tmp_path, tiny.folder / "base", labels)
    unmapped = build_scoring(tiny, emotion_model=str(tmp_path))
    with pytest.raises(InputError, match="its labels are neutral, anger, disgust, fear, joy"):
        check_classifiers(unmapped, EMOTION_LABELS)
    mapped = unmapped.model_copy(update={"emotion_labels": {"joy": "happiness"}})
    check_classifiers(mapped, EMOTION_LABELS)
    (result,) = load_emotion_classifier(mapped).classify(["I got the job !"])
    assert list(result.probabilities) == list(DAILY_DIALOG_EMOTIONS)
    with pytest.raises(InputError, match="scoring.emotion_labels: got joy; allowed: the labels of"):
        check_classifiers(build_scoring(tiny, emotion_labels={"joy": "happiness"}), EMOTION_LABELS)


def test_labels_that_the_classifier_lacks_or_has_besides_are_named_with_their_number(tiny):
    labels = Labels(("neutral", "anger", "joy", "calm"), "neutral")
    with pytest.raises(InputError) as error:
        check_classifiers(build_scoring(tiny), labels)
    assert (
        "needed: neutral, anger, joy, calm (it lacks 2: joy, calm; 5 are no labels of the run: disgust, fear, "
        "happiness, sadness, surprise); map them with scoring.emotion_labels" in str(error.value)
    )
    mapping = {"happiness": "joy", "surprise": "joy", "fear": "calm", "sadness": "calm", "disgust": "anger"}
    mapped = build_scoring(tiny, emotion_labels=mapping)
    check_classifiers(mapped, labels)
    (result,) = load_emotion_classifier(mapped).classify(["I got the job !"])
    assert set(result.probabilities) == set(labels.names)


def test_a_second_emotion_classifier_has_a_mapping_of_its_own(tiny, tmp_path):
    labels = tuple("joy" if emotion == "happiness" else emotion for emotion in DAILY_DIALOG_EMOTIONS)
    write_tiny_classifier(tmp_path, tiny.folder / "base", labels[::-1])
    models = {"emotion_model": str(tiny.folder / "emotion"), "second_emotion_model": str(tmp_path)}
    with pytest.raises(InputError, match="scoring.second_emotion_model: .*; map them with scoring.second_emotion_lab"):
        check_classifiers(EvaluationScoringArguments(**models), EMOTION_LABELS)
    with pytest.raises(InputError, match="scoring.second_emotion_labels: got fun; allowed: the labels of"):
        wrong = EvaluationScoringArguments(**models, second_emotion_labels={"fun": "happiness"})
        check_classifiers(wrong, EMOTION_LABELS)
    mapped = EvaluationScoringArguments(**models, second_emotion_labels={"joy": "happiness"})
    check_classifiers(mapped, EMOTION_LABELS)
    (result,) = CLASSIFIERS["second_emotion_model"](mapped).classify(["I got the job !"])
    assert list(result.probabilities) == list(DAILY_DIALOG_EMOTIONS[::-1])


def test_only_the_classifiers_that_are_named_are_checked_and_loaded(tiny):
    check_classifiers(ScoringArguments(), EMOTION_LABELS)
    scoring = ScoringArguments(gibberish_model=str(tiny.folder / "gibberish"))
    check_classifiers(scoring, Labels((), None))
    assert load_emotion_classifier(scoring) is None
    texts = ["Yes .", "No ."]
    assert classify(load_emotion_classifier(scoring), texts) == [None, None]
    assert classify(load_gibberish_classifier(scoring), texts) == load_gibberish_classifier(scoring).classify(texts)


def write_classifier_with_code(folder: Path, source: Path, ran: Path) -> None:
    """A classifier of a class that only the code in its folder defines; the code leaves the file `ran`."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own_bert", "auto_map": {"AutoConfig": "own_code.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "own_code.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import BertConfig\n"
        "class OwnConfig(BertConfig):\n"
        "    model_type = 'own_bert'\n",
        encoding="utf-8",
    )


@pytest.mark.parametrize("key", ["emotion_model", "gibberish_model"])
def test_code_of_a_classifier_is_never_run(tiny, tmp_path, monkeypatch, key):
    """transformers would ask on standard input, where the messages of a chat come from."""
    messages = io.StringIO("y\ny\ny\n")
    monkeypatch.setattr(sys, "stdin", messages)
    write_classifier_with_code(tmp_path / "own", tiny.folder / key.removesuffix("_model"), tmp_path / "ran")
    with pytest.raises(InputError, match=f"scoring.{key}: .*needs Python code of its own, which is never run; needed"):
        check_classifiers(build_scoring(tiny, **{key: str(tmp_path / "own")}), EMOTION_LABELS)
    assert messages.tell() == 0
    assert not (tmp_path / "ran").exists()


def test_a_base_model_of_a_classifier_runs_no_code_either(tiny, tmp_path, monkeypatch):
    messages = io.StringIO("y\ny\ny\n")
    monkeypatch.setattr(sys, "stdin", messages)
    write_classifier_with_code(tmp_path / "own", tiny.folder / "emotion", tmp_path / "ran")
    with pytest.raises(InputError, match="cannot be loaded as a text classifier"):
        load_for_training(str(tmp_path / "own"), DAILY_DIALOG_EMOTIONS, seed=0)
    assert messages.tell() == 0
    assert not (tmp_path / "ran").exists()


def test_probabilities_of_classes_with_the_same_label_are_added():
    found = to_label_probs(["joy", "fear", "joy"], [0.25, 0.375, 0.375])
    assert found.probabilities == {"joy": 0.625, "fear": 0.375}
    assert (found.label, found.score) == ("joy", 0.625)


def test_each_different_text_is_classified_once_in_batches_of_like_length(tiny, monkeypatch):
    classifier = load_emotion_classifier(build_scoring(tiny, batch_size=2))
    texts = ["I got the job !", "No .", "I got", "No .", "Well , I never thought that it would come to this .", "So ?"]
    expected = {text: classifier.classify([text])[0] for text in texts}
    batches = []
    classify_batch = classifier.classify_batch
    monkeypatch.setattr(classifier, "classify_batch", lambda batch: batches.append(batch) or classify_batch(batch))
    found = classifier.classify_different(texts, "emotion")
    # As many characters as two of the longest text: 2 x 51.
    assert batches == [["No .", "So ?", "I got", "I got the job !"], [texts[4]]]
    assert found.keys() == expected.keys()
    for text, each in found.items():
        assert each.probabilities == pytest.approx(expected[text].probabilities, abs=1e-6)
    assert classifier.classify_different([], "emotion") == {}


@pytest.mark.parametrize(
    ("reply", "starts"),
    [
        ("I see , yes", ["I", "I see", "I see ,", "I see , yes"]),
        ("No\n way  !", ["No", "No\n way", "No\n way  !"]),
        ("", [""]),
        (" ", [" "]),
        ("Oh ", ["Oh "]),
    ],
)
def test_the_starts_of_a_reply_end_after_each_word(reply, starts):
    assert list_starts(reply) == starts
