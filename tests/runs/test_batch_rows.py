"""Resumable files: after an interruption at any byte, complete batches are kept and the others are computed again."""

import pytest

from response_generator.errors import InputError
from response_generator.runs import batch_rows, json_lines

BATCHES = [[0, 1], [2, 3], [4]]


def get_key(row: dict) -> int:
    return row["n"]


def compute_remaining(file) -> list[list[int]]:
    """Computes the missing batches; returns those that were computed."""
    computed = []

    def compute(batch):
        computed.append(batch)
        return [{"n": number, "text": f"row {number} ½\u2028"} for number in batch]

    _, completed = batch_rows.load_completed(file, BATCHES, get_key)
    remaining = [batch for batch, is_complete in zip(BATCHES, completed, strict=True) if not is_complete]
    batch_rows.map_batches(file, remaining, compute, lambda rows, seconds: None)
    return computed


@pytest.fixture
def content(tmp_path) -> bytes:
    """The bytes of a file with all batches."""
    assert compute_remaining(tmp_path / "complete") == BATCHES
    return (tmp_path / "complete").read_bytes()


def test_rows_are_read_as_they_were_written(content, tmp_path):
    rows = json_lines.read_jsonl(tmp_path / "complete")
    assert [row["n"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["text"] == "row 0 ½\u2028"


def test_a_file_cut_off_at_any_byte_is_completed_to_the_same_content(content, tmp_path):
    file = tmp_path / "cut"
    for length in range(len(content) + 1):
        file.write_bytes(content[:length])
        compute_remaining(file)
        assert file.read_bytes() == content, length


def test_only_incomplete_batches_are_computed_again(content, tmp_path, capsys):
    file = tmp_path / "cut"
    lines = content.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]) + lines[3][:9])
    assert compute_remaining(file) == BATCHES[1:]  # the second batch has only one of its two rows
    assert f"{file}: line 4 is incomplete" in capsys.readouterr().out
    assert compute_remaining(file) == []


def test_empty_lines_at_the_end_are_ignored(content, tmp_path):
    file = tmp_path / "empty"
    file.write_bytes(content + b"\n  \n\n")
    assert len(json_lines.read_jsonl(file)) == 5
    assert compute_remaining(file) == []
    assert file.read_bytes() == content


@pytest.mark.parametrize("damage", [b'{"n": 1, "te\n', b"\n", b"[1]\n", b"\xff\n"])
def test_a_damaged_line_inside_the_file_is_refused(content, tmp_path, damage):
    file = tmp_path / "damaged"
    lines = content.splitlines(keepends=True)
    file.write_bytes(lines[0] + damage + b"".join(lines[2:]))
    with pytest.raises(InputError, match="damaged, line 2: is not "):
        compute_remaining(file)
    assert file.read_bytes().startswith(lines[0] + damage)  # the file is unchanged


def test_an_incomplete_last_line_of_a_finished_file_is_refused(content, tmp_path):
    (tmp_path / "cut").write_bytes(content[:-5])
    with pytest.raises(InputError, match="cut, line 5: is not JSON"):
        json_lines.read_jsonl(tmp_path / "cut")


def test_rows_of_other_batches_are_refused(tmp_path):
    json_lines.write_jsonl(tmp_path / "other", [{"n": 0}, {"n": 77}])
    with pytest.raises(InputError, match="rows of other data"):
        compute_remaining(tmp_path / "other")


@pytest.mark.parametrize("key", [[1], {"a": 1}])
def test_a_key_that_is_a_list_is_named_with_its_line(tmp_path, key):
    file = tmp_path / "rows.jsonl"
    json_lines.write_jsonl(file, [{"n": 0}, {"n": key}])
    with pytest.raises(InputError, match=r"rows.jsonl, line 2: has a list or an object in place of a number or a name"):
        batch_rows.load_completed(file, BATCHES, get_key)
    assert len(json_lines.read_jsonl(file)) == 2  # nothing is removed
