"""All data sets of a run are read together, pairs and dialogues, and their errors are reported together."""

import pytest
from conftest import HISTORY, write_rows
from tiny_models import EMOTION_LABELS, demo_rows

from response_generator.config.dataset_schema import DatasetArguments, PairDatasetArguments
from response_generator.data.reading import read_datasets, read_dialogues, read_pairs
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
        f"{bad.path}, line 1: has no chosen, rejected; its columns: prompt; dataset.columns takes other names",
    ]
