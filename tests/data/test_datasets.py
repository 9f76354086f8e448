"""Reading dialogues and preference pairs in every accepted form, and refusing bad rows."""

import json

import pytest
from conftest import HISTORY, write_rows
from tiny_models import EMOTION_LABELS

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.data.dataset_library import load_from_hub
from response_generator.data.raw_rows import read_rows
from response_generator.data.reading import count_skipped, read_dialogues, read_pairs
from response_generator.errors import InputError

REPLY = {"role": "assistant", "content": {"emotion": "happiness", "dialog": "You earned it !"}}
ANGRY = {"role": "assistant", "content": {"emotion": "anger", "dialog": "So what ?"}}
OBJECTS = {"prompt": HISTORY, "chosen": [REPLY], "rejected": [ANGRY]}
STRINGS = {"prompt": "<s>[INST] Hi . [/INST]", "chosen": "Hello .", "rejected": "Go ."}


def dataset(tmp_path, rows, name="rows.jsonl", **arguments) -> DatasetArguments:
    return DatasetArguments(path=write_rows(tmp_path / name, rows), **arguments)


def test_the_last_turn_of_a_dialogue_is_the_gold_reply(tmp_path):
    (dialogue,), _ = read_dialogues(dataset(tmp_path, [{"prompt": [*HISTORY, REPLY]}]), EMOTION_LABELS)
    assert dialogue.history == HISTORY
    assert (dialogue.target_emotion, dialogue.gold_response) == ("happiness", "You earned it !")


def test_pairs_may_be_objects_strings_or_plain_messages(tmp_path):
    plain = {
        "prompt": [{"role": "user", "content": "Hi ."}],
        "chosen": [{"role": "assistant", "content": "[EMOTION] fear [/EMOTION] Who is there ?"}],
        "rejected": [{"role": "assistant", "content": "Hello ."}],
    }
    rows, skipped = read_pairs(dataset(tmp_path, [OBJECTS, STRINGS | {"chosen_score": 9.5}, plain]), EMOTION_LABELS)
    objects, strings, messages = rows
    assert not skipped
    assert objects.chosen == {"emotion": "happiness", "dialog": "You earned it !"}
    assert (strings.prompt, strings.chosen_score, strings.rejected_score) == (STRINGS["prompt"], 9.5, None)
    # An [EMOTION] marker in a completion becomes the target emotion of the prompt.
    assert messages.chosen == {"emotion": "fear", "dialog": "Who is there ?"}
    assert messages.rejected == "Hello ."


def test_all_file_formats_give_the_same_rows(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [OBJECTS, OBJECTS | {"rejected": [REPLY]}, OBJECTS]
    expected, _ = read_pairs(dataset(tmp_path, rows, "train.jsonl"), EMOTION_LABELS)
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("rows.json", "rows.parquet", "."):
        assert read_pairs(DatasetArguments(path=str(tmp_path / name)), EMOTION_LABELS)[0] == expected
    assert read_pairs(DatasetArguments(path=str(tmp_path / "rows.json"), limit=2), EMOTION_LABELS)[0] == expected[:2]
    later = read_pairs(DatasetArguments(path=str(tmp_path / "rows.json"), offset=1, limit=1), EMOTION_LABELS)[0]
    assert [pair.rejected for pair in later] == [expected[1].rejected] != [expected[0].rejected]
    # The layout of a hub repository, as downloaded by `hf download`.
    (tmp_path / "clone" / "data").mkdir(parents=True)
    for part, part_rows in enumerate((rows[:1], rows[1:])):
        table = pyarrow.Table.from_pylist(part_rows)
        parquet.write_table(table, tmp_path / "clone" / "data" / f"train-0000{part}-of-00002.parquet")
    assert read_pairs(DatasetArguments(path=str(tmp_path / "clone")), EMOTION_LABELS)[0] == expected


def test_rows_from_the_hub_equal_rows_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    arguments = dataset(tmp_path, [OBJECTS, OBJECTS], "data/train.jsonl")
    folder = DatasetArguments(path=str(tmp_path / "data"), num_proc=2)  # load_dataset also accepts a folder
    assert list(load_from_hub(folder)) == [row for _, row in read_rows(arguments)]
    with pytest.raises(InputError, match="dataset.path: .*split"):
        load_from_hub(DatasetArguments(path=str(tmp_path / "data"), split="no such split"))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": HISTORY, "chosen": [REPLY]}, "has no rejected; its columns: prompt, chosen"),
        (OBJECTS | {"prompt": [HISTORY[1], HISTORY[0]]}, "turn 1: role is 'assistant'; needed: 'user'"),
        (OBJECTS | {"prompt": [HISTORY[0], HISTORY[2]]}, "turn 2: role is 'user'; needed: 'assistant'"),
        (OBJECTS | {"prompt": HISTORY[:2]}, "prompt ends with assistant"),
        (OBJECTS | {"prompt": []}, "prompt is empty"),
        (OBJECTS | {"chosen": "Hello ."}, "chosen is text; needed: a list of one assistant message"),
        (OBJECTS | {"chosen": [REPLY, REPLY]}, "chosen is a list of 2; needed: a list of one"),
        (OBJECTS | {"rejected": [HISTORY[0]]}, "rejected is not an assistant message"),
        (OBJECTS | {"chosen_score": "high"}, "chosen_score is text; needed: a number"),
        (STRINGS | {"rejected": ""}, "rejected is empty"),
        (STRINGS | {"rejected": " \n"}, "rejected is blank; needed: text, because the prompt is text"),
        (STRINGS | {"rejected": [ANGRY]}, "rejected is a list; needed: text, because the prompt is text"),
        ([1], "is a list; needed: an object"),
    ],
)
def test_a_bad_pair_is_refused_with_its_line(tmp_path, row, words):
    with pytest.raises(InputError) as error:
        read_pairs(dataset(tmp_path, [OBJECTS, row]), EMOTION_LABELS)
    assert "rows.jsonl, line 2:" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"emotion": "joy", "dialog": "Yes ."}, "emotion is 'joy'; allowed: neutral, anger"),
        ({"emotion": "fear", "dialog": "  "}, "dialog is blank; needed: text"),
        ({"emotion": "fear"}, "needed: text with a label beside it, or an object with emotion and dialog"),
        ("Yes .", "content is text"),
    ],
)
def test_a_bad_turn_of_a_dialogue_is_refused(tmp_path, content, words):
    with pytest.raises(InputError, match="line 1: prompt, turn 4") as error:
        read_dialogues(
            dataset(tmp_path, [{"prompt": [*HISTORY, {"role": "assistant", "content": content}]}]), EMOTION_LABELS
        )
    assert words in str(error.value)


def test_a_dialogue_that_ends_with_the_user_is_refused(tmp_path):
    with pytest.raises(InputError, match="prompt ends with user; the last turn .* must be the assistant"):
        read_dialogues(dataset(tmp_path, [{"prompt": HISTORY}]), EMOTION_LABELS)


def test_skipped_rows_are_counted_by_reason(tmp_path):
    bad = [STRINGS | {"rejected": " "}, {"prompt": "Hi ."}, STRINGS | {"rejected": " "}, [1]]
    data = dataset(tmp_path, [STRINGS, *bad, STRINGS], skip_bad_rows=True)
    pairs, skipped = read_pairs(data, EMOTION_LABELS)
    assert [pair.index for pair in pairs] == [0, 5]  # row numbers in the file
    assert skipped == {"rejected is blank": 2, "has no chosen, rejected": 1, "is a list": 1}
    assert count_skipped("dataset", data, skipped) == {
        "dataset/skipped_rows": 4,
        "dataset/skipped_rows/has no chosen, rejected": 1,
        "dataset/skipped_rows/is a list": 1,
        "dataset/skipped_rows/rejected is blank": 2,
    }
    good = dataset(tmp_path, [STRINGS], "good.jsonl", skip_bad_rows=True)
    assert count_skipped("dataset", good, read_pairs(good, EMOTION_LABELS)[1]) == {"dataset/skipped_rows": 0}
    with pytest.raises(InputError, match="line 1: rejected is blank"):
        read_pairs(dataset(tmp_path, bad, "bad.jsonl", skip_bad_rows=True), EMOTION_LABELS)


def test_of_many_bad_rows_the_first_of_each_reason_is_listed(tmp_path):
    with pytest.raises(InputError) as error:
        read_pairs(dataset(tmp_path, [{"prompt": HISTORY}] * 25 + [[]]), EMOTION_LABELS)
    many, one = error.value.messages
    assert "line 1: has no chosen, rejected; its columns: prompt; " in many
    assert many.endswith(" (and 24 more rows like this)")
    assert one.endswith("line 26: is empty; needed: an object with chosen, prompt, rejected")


def test_empty_and_broken_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no rows"):
        read_pairs(dataset(tmp_path, []), EMOTION_LABELS)
    file = tmp_path / "broken.jsonl"
    file.write_text(json.dumps(OBJECTS) + '\n{"prompt": \n', encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.jsonl, line 2: broken JSON at column 11:"):
        read_pairs(DatasetArguments(path=str(file)), EMOTION_LABELS)
    (tmp_path / "rows.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read_pairs(DatasetArguments(path=str(tmp_path / "rows.parquet")), EMOTION_LABELS)
    with pytest.raises(InputError, match="holds no validation.jsonl"):
        read_pairs(DatasetArguments(path=str(tmp_path), split="validation"), EMOTION_LABELS)
