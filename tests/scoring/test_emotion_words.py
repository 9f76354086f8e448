"""Words that name an emotion: the program's own, those of a file, and files that are refused."""

import json

import pytest
from tiny_models import EMOTION_LABELS

from response_generator.errors import InputError
from response_generator.labels import Labels
from response_generator.scoring.emotion_words import OWN_FILE, find_word_errors, names_emotion, read_emotion_words

POLITENESS = Labels(("plain", "polite", "rude"), "plain")
WORDS = {"polite": ["please", "would you mind"], "rude": ["shut up"]}


def write_words(folder, words) -> str:
    file = folder / "words.json"
    file.write_text(json.dumps(words), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("I ' m so happy for you !", "happiness", True),
        ("HAPPIER than ever", "happiness", True),
        ("what joy.", "happiness", True),
        ("I ' m so happy for you !", "sadness", False),
        ("I ' m unhappy .", "happiness", False),  # part of another word
        ("I ' m unhappy .", "sadness", True),
        ("It was made in Madrid .", "anger", False),
        ("I am sick  of it .", "disgust", True),  # a phrase, whatever its spaces
        ("I am sick .", "disgust", False),
        ("You got the job ? Congratulations !", "surprise", False),
        ("I am neutral .", "neutral", False),
        ("", "fear", False),
    ],
)
def test_whole_words_are_found_in_any_case(text, target, expected):
    assert names_emotion(read_emotion_words(None, EMOTION_LABELS), text, target) is expected


def test_the_own_words_are_for_the_labels_that_they_know():
    assert read_emotion_words(None, EMOTION_LABELS).keys() == {*EMOTION_LABELS.names} - {"neutral"}
    some = Labels(("calm", "fear", "anger"), "calm")
    assert read_emotion_words(None, some).keys() == {"fear", "anger"}
    assert read_emotion_words(None, POLITENESS) is None
    assert read_emotion_words(None, Labels(("fear", "calm"), None)) is None  # none of them is neutral
    assert read_emotion_words(None, Labels((), None)) is None


def test_there_is_a_list_for_chinese():
    words = read_emotion_words(str(OWN_FILE.with_name("emotion_words_chinese.json")), EMOTION_LABELS)
    assert names_emotion(words, "我好開心！", "happiness") and not names_emotion(words, "門開了。", "happiness")
    assert names_emotion(words, "你嚇到我了，好可怕。", "fear") and not names_emotion(words, "我好開心！", "fear")
    each = [word for pattern in words.values() for word in pattern.pattern.split("|")]
    assert len(each) == len(set(each)) > 50  # no word stands for two emotions


def test_words_of_own_labels_are_read_from_a_file(tmp_path):
    words = read_emotion_words(write_words(tmp_path, WORDS), POLITENESS)
    assert names_emotion(words, "Would you  mind helping ?", "polite")
    assert not names_emotion(words, "Would you help ?", "polite")
    assert not names_emotion(words, "Please .", "rude") and not names_emotion(words, "Please .", "plain")
    chinese = read_emotion_words(write_words(tmp_path, {"polite": ["請", "thanks"], "rude": ["閉嘴"]}), POLITENESS)
    assert names_emotion(chinese, "你閉嘴！", "rude") and not names_emotion(chinese, "你好", "rude")
    assert names_emotion(chinese, "好thanks。", "polite") and not names_emotion(chinese, "thanksgiving", "polite")
    escaped = read_emotion_words(write_words(tmp_path, WORDS | {"rude": ["d.mn"]}), POLITENESS)
    assert names_emotion(escaped, "d.mn it", "rude") and not names_emotion(escaped, "damn it", "rude")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"polite": ["please"]}, "words.json: no words for rude; add them"),
        (WORDS | {"kind": ["dear"]}, "words.json: kind: is not one of polite, rude; remove it, or set labels"),
        (WORDS | {"plain": ["okay"]}, "words.json: plain: is not one of polite, rude"),
        (WORDS | {"rude": []}, "words.json: rude: got []; needed: a list of one or more words or phrases"),
        (WORDS | {"rude": "shut up"}, "words.json: rude: got 'shut up'; needed"),
        (WORDS | {"rude": ["shut up", " "]}, "words.json: rude: got ['shut up', ' ']; needed"),
        (WORDS | {"rude": [3]}, "words.json: rude: got [3]; needed"),
        ([], "words.json: holds a list"),
    ],
)
def test_files_of_other_words_are_refused(tmp_path, words, message):
    (error,) = find_word_errors("scoring.emotion_words", write_words(tmp_path, words), POLITENESS)
    assert error.startswith("scoring.emotion_words: ") and message in error


def test_everything_wrong_with_a_file_is_told_at_once(tmp_path):
    with pytest.raises(InputError) as error:
        read_emotion_words(write_words(tmp_path, {"kind": ["dear"]}), POLITENESS)
    assert len(error.value.messages) == 3
    (missing,) = find_word_errors("reward.emotion_words", str(tmp_path / "none.json"), POLITENESS)
    assert "reward.emotion_words: " in missing and "none.json: cannot be read" in missing


def test_what_needs_words_says_that_there_are_none_for_these_labels():
    assert find_word_errors("reward.emotion_words", None, POLITENESS) == []
    (error,) = find_word_errors("reward.emotion_words", None, POLITENESS, needed=True)
    assert error.startswith("reward.emotion_words: missing; the program's own words are not for plain, polite, rude")
    assert find_word_errors("reward.emotion_words", None, EMOTION_LABELS, needed=True) == []
