"""What reaches a terminal, a pipe whose reader has ended, and an output of another encoding."""

import io
import os
import subprocess
import sys

import pytest
from rich.table import Table
from script_runs import script_environment, start_script
from tiny_models import ROOT

from response_generator.runs import terminal

OSC, CLEAR = "\x1b]0;owned\x07", "\x1b[2J"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (OSC, "\\x1b]0;owned\\x07"),
        (CLEAR, "\\x1b[2J"),
        ("a\rb\x08c\x00\x7f", "a\\rb\\x08c\\x00\\x7f"),
        ("\x9b2J\x85", "\\x9b2J\\x85"),  # C1: a terminal of 8 bits takes the first one for ESC [
        ("\u202eabc\u202c \u2066x\u2069", "\\u202eabc\\u202c \\u2066x\\u2069"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\ud83d", "\\ud83d"),
        ("two\n\tlines", "two\n\tlines"),
        ("ordinary é 中文 हिन्दी العربية e\u0301 \U0001f469\u200d\U0001f4bb ⟦…⟧\u00a0", None),
    ],
)
def test_control_characters_are_shown_and_other_text_is_not_changed(text, shown):
    assert terminal.show_controls(text) == (text if shown is None else shown)


def test_a_text_in_one_line():
    assert terminal.to_one_line(f" a\n\n{CLEAR}\tb\r ") == "a \\x1b[2J b\\r"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\r 40%|####", "\r 40%|####"),
        ("\x1b[A\x1b[A", "\x1b[A\x1b[A"),
        (f"\r{OSC}: 40%", "\r\\x1b]0;owned\\x07: 40%"),
        ("done\r", "done\\r"),
        ("\x1b[34mwandb\x1b[0m: ready\n", "wandb: ready\n"),
    ],
)
def test_bars_keep_their_moves_and_libraries_lose_their_colors(text, shown):
    written = io.StringIO()
    print(text, end="", file=terminal.PlainOutput(terminal.Output(written), has_bars=True))
    assert written.getvalue() == shown
    written = io.StringIO()
    print(text, end="", file=terminal.PlainOutput(terminal.Output(written)))
    assert not set("\r\x1b\x07") & set(written.getvalue())


def test_a_console_keeps_its_own_styles_alone(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal.PlainOutput(terminal.Output(written)))
    console = terminal.PlainConsole(force_terminal=True, color_system="standard", highlight=False, width=40)
    table = Table(show_header=False)
    table.add_row(f"{CLEAR}x", "\x1b[8mhidden")
    console.print("[red]red[/red]", f"{CLEAR}text", table)
    shown = written.getvalue()
    assert "\x1b[31mred\x1b[0m \\x1b[2Jtext" in shown
    assert shown.count("\\x1b") == 3  # the cells of a table end where they would without these characters
    assert terminal.COLOR.sub("", shown).count("\x1b") == 0


WITHOUT_READER = """
import os, sys
from pathlib import Path
from response_generator.cli import command_line
def main():
    for number in range(3):
        print("…", number, flush=True)
        print("step", number, file=sys.stderr)
        os.write(1, b"a library writes to the descriptor\\n")
    with open(sys.argv[1], "w") as file:
        os.write(1, b"and again\\n")
        file.write("finished")
sys.exit(command_line.run_main(main))
"""


def run_program(program: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=script_environment() | options.pop("env", {}), check=False, **options)


def open_pipe_without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.slow
@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_reader_that_has_ended_does_not_end_the_program(closed, tmp_path):
    pipe = open_pipe_without_reader()
    streams = {name: pipe if name in closed else subprocess.PIPE for name in ("stdout", "stderr")}
    done = run_program(WITHOUT_READER, str(tmp_path / "file"), **streams)
    os.close(pipe)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text(encoding="utf-8") == "finished"
    assert not done.stderr or b"Error" not in done.stderr


@pytest.mark.slow
def test_an_output_that_was_closed_at_the_start_is_no_file_of_the_program(tmp_path):
    done = run_program(
        f"import os\nos.closerange(0, 3)\nos.execv({sys.executable!r}, {[sys.executable, '-c']!r} + "
        f"[{WITHOUT_READER!r}, {str(tmp_path / 'file')!r}])",
        capture_output=True,
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text(encoding="utf-8") == "finished"


@pytest.mark.slow
def test_a_full_disk_below_stdout_is_told_and_does_not_end_the_program(tmp_path):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run_program(WITHOUT_READER, str(tmp_path / "file"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text(encoding="utf-8") == "finished"
    assert done.stderr.count("stdout cannot be written (No space left on device); this run goes on without it\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"\\u2026 0\n"), ("latin-1", b"\\u2026 0\n")])
def test_any_encoding_will_do(encoding, shown, tmp_path):
    done = run_program(WITHOUT_READER, str(tmp_path / "file"), env={"PYTHONIOENCODING": encoding}, capture_output=True)
    assert done.returncode == 0
    assert done.stdout.startswith(shown)


@pytest.mark.slow
def test_help_may_be_read_by_head():
    pipe = open_pipe_without_reader()
    command = [sys.executable, "evaluate.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=script_environment(), stdout=pipe, stderr=subprocess.PIPE, check=False)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (0, b"")


UNREAD = f"""
import os, runpy, sys
reader, writer = os.pipe()
os.close(reader)
for descriptor in (1, 2):
    os.dup2(writer, descriptor)
sys.stdout = open(1, "w", encoding="ascii", closefd=False)
runpy.run_path({str(ROOT / "fine_tune_dpo.py")!r}, run_name="__main__")
"""


def test_training_finishes_without_anyone_who_reads(tiny, tmp_path):
    """Its outputs are ASCII, and pipes whose reader has ended."""
    (tmp_path / "unread.py").write_text(UNREAD, encoding="utf-8")
    values = tiny.dpo(tmp_path / "run", eval_dataset=None, sample_replies={"every_steps": 1, "prompts": 1})
    values["dpo"] |= {"num_train_epochs": 1}
    process = start_script(str(tmp_path / "unread.py"), values, tmp_path)
    assert process.wait() == 0
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "run" / "metrics.json").is_file()
