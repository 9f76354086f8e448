"""Damaged data files are refused; files whose format differs from their suffix are read where possible."""

import json
import os

import pyarrow
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet
from script_runs import run_here
from test_datasets import HISTORY, OBJECTS, REPLY, STRINGS, dataset
from tiny_models import EMOTION_LABELS

import evaluate
import fine_tune_dpo
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.data.raw_rows import count_rows
from response_generator.data.reading import read_dialogues, read_pairs
from response_generator.errors import InputError

LINE = json.dumps(STRINGS)


def read_text(tmp_path, text: str | bytes, name: str = "rows.jsonl"):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return read_pairs(DatasetArguments(path=str(file)), EMOTION_LABELS)[0]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"\ufeff{LINE}\n{LINE}\n", "rows.jsonl"),
        (f"\ufeff[{LINE},\n{LINE}]", "rows.json"),
        (f"{LINE}\n\n{LINE}\n", "rows.json"),
        (f"[\n{LINE},\n{LINE}\n]", "rows.jsonl"),
    ],
    ids=["BOM", "BOM and list", "lines called .json", "list called .jsonl"],
)
def test_json_formats_are_recognized_by_content(tmp_path, text, name):
    assert [pair.prompt for pair in read_text(tmp_path, text, name)] == [STRINGS["prompt"]] * 2
    assert count_rows(DatasetArguments(path=str(tmp_path / name), limit=1)) == 2


def test_folders_of_save_to_disk_are_read(tmp_path):
    rows = [OBJECTS, OBJECTS | {"rejected": [REPLY]}]
    expected, _ = read_pairs(dataset(tmp_path, rows), EMOTION_LABELS)
    Dataset.from_list(rows).save_to_disk(tmp_path / "one")
    DatasetDict(train=Dataset.from_list(rows[:1]), held_out=Dataset.from_list(rows)).save_to_disk(tmp_path / "several")
    one = DatasetArguments(path=str(tmp_path / "one"))
    several = DatasetArguments(path=str(tmp_path / "several"), split="held_out", limit=1)
    assert read_pairs(one, EMOTION_LABELS)[0] == expected
    assert read_pairs(several, EMOTION_LABELS)[0] == expected[:1]
    assert (count_rows(one), count_rows(several)) == (2, 2)
    with pytest.raises(InputError, match="holds no split test; it has train, held_out"):
        read_pairs(DatasetArguments(path=str(tmp_path / "several"), split="test"), EMOTION_LABELS)
    for arrow in (tmp_path / "one").glob("*.arrow"):
        arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as a saved data set .*; save it again"):
        read_pairs(one, EMOTION_LABELS)
    (tmp_path / "one" / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as a saved data set .*; save it again"):
        read_pairs(one, EMOTION_LABELS)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (LINE[:-1] + ', "prompt": "Hi ."}', "line 2: prompt: written twice; keep one"),
        ('{"prompt": ' + "[" * 5000, "line 2: is nested more than 100 brackets deep"),
        ('{"prompt": ' + "[" * 101 + "]" * 101 + "}", "line 2: is nested more than 100 brackets deep"),
        (
            LINE[:-1] + f', "chosen_score": {"1" * 5000}}}',
            "line 2: holds an integer with more digits than Python reads",
        ),
        (LINE[:-1] + ', "chosen_score": NaN}', "line 2: chosen_score: got nan; allowed: a finite number"),
        (LINE[:-1] + ', "chosen_score": 1e999}', "line 2: chosen_score: got inf; allowed: a finite number"),
        (LINE.replace("Go .", "\\ud83d ."), "line 2: rejected: holds U+D83D, which is half a character"),
        ("{", "line 2: broken JSON at column 2: .*; needed: one row per line, or one list of rows"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_damaged_row_is_refused_with_its_line(tmp_path, bad, words):
    bad = bad if isinstance(bad, bytes) else bad.encode("utf-8")
    with pytest.raises(InputError, match=words.replace("+", r"\+")):
        read_text(tmp_path, LINE.encode("utf-8") + b"\n" + bad + b"\n")


def test_a_dialogue_with_a_lone_surrogate_is_refused_or_skipped(tmp_path):
    bad = [*HISTORY[:2], {"role": "user", "content": {"emotion": "neutral", "dialog": "Ha \ude00"}}, REPLY]
    good = [*HISTORY, REPLY]
    data = dataset(tmp_path, [{"prompt": good}, {"prompt": bad}])
    with pytest.raises(InputError, match=r"line 2: prompt.2.content.dialog: holds U\+DE00"):
        read_dialogues(data, EMOTION_LABELS)
    assert len(read_dialogues(data.model_copy(update={"skip_bad_rows": True}), EMOTION_LABELS)[0]) == 1


def test_nan_in_an_unused_column_is_accepted(tmp_path):
    assert read_text(tmp_path, LINE[:-1] + ', "annotator_age": NaN}')


def test_a_damaged_parquet_file_is_refused(tmp_path):
    file = tmp_path / "rows.parquet"
    rows = [STRINGS | {"chosen": f"Hello {number} ."} for number in range(500)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    content = file.read_bytes()
    middle = len(content) // 2
    for damaged in (content[:middle], content[: middle - 200] + bytes(400) + content[middle + 200 :], b"PAR1"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read as parquet .*; download or write it again"):
            read_pairs(DatasetArguments(path=str(file)), EMOTION_LABELS)


@pytest.mark.parametrize("main", [fine_tune_dpo.main, evaluate.main])
def test_a_pipe_is_refused_at_once(tiny, tmp_path, capsys, main):
    os.mkfifo(tmp_path / "rows.jsonl")
    values = tiny.dpo(tmp_path / "run") if main is fine_tune_dpo.main else tiny.evaluate(tmp_path / "run")
    values["dataset"] = {"path": str(tmp_path / "rows.jsonl")}
    assert run_here(main, values, tmp_path) == 2
    assert "is neither a file nor a folder (a pipe?)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_no_name_is_refused(tiny, tmp_path, capsys):
    for split in ("../train", "", "/etc/passwd"):
        values = tiny.dpo(tmp_path / "run", dataset={"path": str(tmp_path), "split": split})
        assert run_here(fine_tune_dpo.main, values, tmp_path) == 2
        assert "a split is a name, such as train" in capsys.readouterr().err
