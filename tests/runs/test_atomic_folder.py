"""A folder is written completely or not at all, and what a killed process left behind is removed by the next one."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from response_generator.runs.atomic_folder import CONTENT, LOCK_FILE, atomic_folder

WRITE_AND_WAIT = (
    "import sys; from pathlib import Path; from response_generator.runs.atomic_folder import atomic_folder\n"
    "with atomic_folder(Path(sys.argv[1])) as folder:\n"
    "    folder.mkdir()\n"
    "    print('writing', flush=True)\n"
    "    sys.stdin.read()"
)


def start_writing(target) -> subprocess.Popen:
    """A process that is writing `target`."""
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(target)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.stdout.readline() != "writing\n":
        assert process.poll() is None
    return process


def test_the_folder_appears_whole_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "new" / "merged") as folder:
        folder.mkdir()
        (folder / "file").write_text("content")
        assert not (tmp_path / "new" / "merged").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["merged"]
    assert (tmp_path / "new" / "merged" / "file").read_text() == "content"
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "new" / "other") as folder:
        folder.mkdir()
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["merged"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, capsys):
    target = tmp_path / "mer[g]ed"
    killed = start_writing(target)
    killed.kill()
    killed.communicate()
    (left,) = tmp_path.iterdir()
    (tmp_path / ".mer[g]ed-notes").mkdir()  # no lock file
    (tmp_path / ".mer[g]ed-mine").mkdir()
    for name in (LOCK_FILE, CONTENT, "notes.txt"):
        (tmp_path / ".mer[g]ed-mine" / name).touch()
    in_use = start_writing(target)
    assert not left.exists()
    kept = {path.name for path in tmp_path.iterdir()}
    with atomic_folder(target) as folder:
        folder.mkdir()
    assert {path.name for path in tmp_path.iterdir()} == kept | {target.name}
    assert len(kept) == 3  # that of the process that still writes, and two that others made
    in_use.kill()
    in_use.communicate()
    target.rmdir()
    with atomic_folder(target) as folder:
        os.mkdir(folder)
    assert "is removed: a process that was killed has left it" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 3
