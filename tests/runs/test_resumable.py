"""Files that grow: whatever cut them off, what was whole is kept and the rest is done again."""

import pytest

from response_generator.errors import InputError
from response_generator.runs import json_lines, resumable

PIECES = [[0, 1], [2, 3], [4]]


def key(row: dict) -> int:
    return row["n"]


def finish(file) -> list[list[int]]:
    """Does what is outstanding; returns the pieces that were worked on."""
    worked = []

    def work(piece):
        worked.append(piece)
        return [{"n": number, "text": f"row {number} ½\u2028"} for number in piece]

    _, done = resumable.load_completed(file, PIECES, key)
    todo = [piece for piece, is_done in zip(PIECES, done, strict=True) if not is_done]
    resumable.map_batches(file, todo, work, lambda rows, seconds: None)
    return worked


@pytest.fixture
def whole(tmp_path) -> bytes:
    assert finish(tmp_path / "whole") == PIECES
    return (tmp_path / "whole").read_bytes()


def test_rows_come_back_as_they_were_written(whole, tmp_path):
    rows = json_lines.read_jsonl(tmp_path / "whole")
    assert [row["n"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["text"] == "row 0 ½\u2028"


def test_cut_off_at_any_byte_it_ends_the_same(whole, tmp_path):
    file = tmp_path / "cut"
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        finish(file)
        assert file.read_bytes() == whole, length


def test_only_what_is_not_whole_is_done_again(whole, tmp_path, capsys):
    file = tmp_path / "cut"
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]) + lines[3][:9])
    assert finish(file) == PIECES[1:]  # the second piece is begun, not done
    assert f"{file}: line 4 was cut off; what it belongs to is done again" in capsys.readouterr().out
    assert finish(file) == []


def test_empty_lines_at_the_end_are_no_rows(whole, tmp_path):
    file = tmp_path / "empty"
    file.write_bytes(whole + b"\n  \n\n")
    assert len(json_lines.read_jsonl(file)) == 5
    assert finish(file) == []
    assert file.read_bytes() == whole


@pytest.mark.parametrize("damage", [b'{"n": 1, "te\n', b"\n", b"[1]\n", b"\xff\n"])
def test_damage_within_is_refused_with_the_line(whole, tmp_path, damage):
    file = tmp_path / "damaged"
    lines = whole.splitlines(keepends=True)
    file.write_bytes(lines[0] + damage + b"".join(lines[2:]))
    with pytest.raises(InputError, match="damaged, line 2: is no JSON"):
        finish(file)
    assert file.read_bytes().startswith(lines[0] + damage)  # nothing is lost


def test_a_cut_off_line_is_refused_where_nobody_writes(whole, tmp_path):
    (tmp_path / "cut").write_bytes(whole[:-5])
    with pytest.raises(InputError, match="cut, line 5: is no JSON"):
        json_lines.read_jsonl(tmp_path / "cut")


def test_rows_of_other_work_are_refused(tmp_path):
    json_lines.write_jsonl(tmp_path / "other", [{"n": 0}, {"n": 77}])
    with pytest.raises(InputError, match="rows of other data"):
        finish(tmp_path / "other")
