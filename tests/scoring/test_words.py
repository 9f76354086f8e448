"""Words of English, of Chinese, and of texts in which both stand."""

import pytest

from response_generator.scoring.words import compile_words, list_starts, list_tokens, list_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I ' m  fine .", ["I", "'", "m", "fine", "."]),
        ("It's fine.", ["It's", "fine."]),
        ("我很好。", ["我", "很", "好", "。"]),
        ("我用Python 3", ["我", "用", "Python", "3"]),
        ("\u3000嗨 ", ["嗨"]),
        ("おはよう", ["おはよう"]),  # Japanese kana are not split
        ("", []),
    ],
)
def test_a_chinese_character_is_a_word(text, words):
    assert list_words(text) == words


def test_tokens_have_punctuation_apart():
    assert list_tokens("It's fine.") == ["It", "'", "s", "fine", "."]
    assert list_tokens("我很好，ok。") == ["我", "很", "好", "，", "ok", "。"]


def test_starts_end_after_each_word_and_with_the_whole_text():
    assert list_starts("No , thanks . ") == ["No", "No ,", "No , thanks", "No , thanks . "]
    assert list_starts("我好。") == ["我", "我好", "我好。"]
    assert list_starts(" ") == [" "]


def test_whole_words_are_found_in_both_scripts():
    found = compile_words(["joy", "開心", "so glad"])
    for text in ("JOY!", "很joy", "我很開心！", "x開心", "so  glad"):
        assert found.search(text), text
    for text in ("enjoy", "joyful", "開門", "so gladly", "joy2"):
        assert not found.search(text), text
