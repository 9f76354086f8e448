"""All data sets of a run are read together, pairs and dialogues, and their errors are reported together."""

import pytest
from conftest import HISTORY, write_rows
from tiny_models import EMOTION_LABELS, demo_rows

from response_generator.config.dataset_schema import DatasetArguments, LabeledDatasetArguments, PairDatasetArguments
from response_generator.data.reading import read_datasets, read_dialogues, read_labeled_texts, read_pairs
from response_generator.errors import InputError


def test_the_class_of_the_arguments_says_what_the_rows_are(tmp_path):
    pairs = PairDatasetArguments(path=write_rows(tmp_path / "pairs.jsonl", demo_rows("written_pairs_train", 3)))
    dialogues = DatasetArguments(path=write_rows(tmp_path / "dialogues.jsonl", demo_rows("dialogues_test", 2)))
    found = read_datasets(EMOTION_LABELS, dialogues, None, pairs)
    assert found == [read_dialogues(dialogues, EMOTION_LABELS), ([], {}), read_pairs(pairs, EMOTION_LABELS)]
    assert [len(rows) for rows, _ in found] == [2, 0, 3]


def test_errors_of_all_data_sets_come_together(tmp_path):
    good = DatasetArguments(path=write_rows(tmp_path / "good.jsonl", demo_rows("dialogues_test", 2)))
    empty = DatasetArguments(path=write_rows(tmp_path / "empty.jsonl", []))
    bad = PairDatasetArguments(path=write_rows(tmp_path / "bad.jsonl", [{"prompt": HISTORY}]))
    with pytest.raises(InputError) as raised:
        read_datasets(EMOTION_LABELS, empty, good, bad)
    assert raised.value.messages == [
        f"{empty.path} (split train): holds no rows",
        f"{bad.path}, line 1: has no chosen, rejected; its columns: prompt; columns takes other names",
    ]


def read_texts(tmp_path, rows: list[dict], **settings) -> list[tuple]:
    data = LabeledDatasetArguments(path=write_rows(tmp_path / "texts.jsonl", rows), **settings)
    assert read_datasets(EMOTION_LABELS, data) == [read_labeled_texts(data, EMOTION_LABELS)]
    return read_labeled_texts(data, EMOTION_LABELS)[0]


def test_texts_with_labels_are_rows_of_their_own_and_the_turns_of_a_dialogue_one_row(tmp_path):
    texts = [{"text": "Yes !", "emotion": "happiness", "more": 1}, {"text": "No .", "emotion": "neutral"}]
    assert read_texts(tmp_path, texts) == [(("Yes !", "happiness"),), (("No .", "neutral"),)]
    renamed = [{"words": "Yes !", "label": "anger", "text": 5}]
    assert read_texts(tmp_path, renamed, columns={"text": "words", "emotion": "label"}) == [(("Yes !", "anger"),)]
    turns = [
        {"role": "system", "content": "Be kind ."},
        {"role": "user", "content": "We met ."},
        {"role": "assistant", "content": "Where ?", "label": "surprise"},
        {"role": "user", "content": {"emotion": "fear", "dialog": "In the dark ."}},
        {"role": "assistant", "content": {"emotion": "neutral", "dialog": "I see ."}},
    ]
    expected = [(("Where ?", "surprise"), ("In the dark .", "fear"), ("I see .", "neutral"))]
    assert read_texts(tmp_path, [{"messages": turns}]) == expected
    assert read_texts(tmp_path, [{"prompt": turns, "text": "x", "emotion": "anger"}]) == expected  # as everywhere else


def test_a_text_may_have_a_column_that_dialogues_have(tmp_path):
    row = {"text": "No .", "emotion": "anger", "prompt": "source 3", "messages": []}
    assert read_texts(tmp_path, [row]) == [(("No .", "anger"),)]


def test_the_first_row_of_either_form_decides_for_the_data_set(tmp_path):
    dialogue, text = demo_rows("dialogues_test", 1)[0], {"text": "No .", "emotion": "neutral"}
    rows = [{"text": "No label ."}, text, dialogue]
    with pytest.raises(InputError) as error:
        read_texts(tmp_path, rows)
    file = tmp_path / "texts.jsonl"
    assert error.value.messages == [
        f'{file}, line 1: has neither form; needed: "text" and "emotion", or a dialogue in "prompt" or "messages"; its '
        f"columns: text; columns takes other names",
        f"{file}, line 3: has no emotion, text; its columns: {', '.join(dialogue)}; columns takes other names; the "
        f"first row decides what all rows of a data set are",
    ]
    assert read_texts(tmp_path, rows, skip_bad_rows=True) == [(("No .", "neutral"),)]
    assert len(read_texts(tmp_path, [dialogue, text], skip_bad_rows=True)) == 1
    with pytest.raises(InputError, match="line 2: has no prompt; its columns: text, emotion"):
        read_texts(tmp_path, [dialogue, text])


def test_unknown_labels_of_texts_are_counted(tmp_path):
    rows = [{"text": "No .", "emotion": name} for name in ("joy", "anger", "joy", None, "bored", 3)]
    with pytest.raises(InputError) as error:
        read_texts(tmp_path, rows)
    assert "labels that are not in the args: 'joy' (rows: 2), 'bored' (rows: 1); add them" in error.value.messages[0]
    with pytest.raises(InputError, match=r"line 1: text: holds U\+D800, which is half a character"):
        read_texts(tmp_path, [{"text": "\ud800", "emotion": "anger"}])
