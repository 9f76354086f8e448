"""Rows, columns and file names with escape sequences: what the programs print holds none of them."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import write_rows
from script_runs import run_here
from tiny_models import demo_rows

import evaluate
import fine_tune_dpo
from response_generator import sft
from response_generator.chat import terminal as chat_terminal
from response_generator.chat.reply import Reply
from response_generator.cli import command_line
from response_generator.preferences import __main__ as preferences
from response_generator.training.monitoring import samples

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202etxt\x7f\u2028end"
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
SHOWN = "\\x1b]0;owned\\x07\\x1b[2J\\x9b1m\\u202etxt\\x7f\\u2028end"
SHOWN_BY_RICH = SHOWN.replace("\\x07", "")  # rich leaves out this one, and a carriage return


def read_output(capsys) -> str:
    """What was printed, without the carriage returns of progress bars."""
    printed = capsys.readouterr()
    assert "\r" not in printed.out
    text = printed.out + printed.err.replace("\r", "")
    assert not RAW.search(text), repr(text)
    return text


def write_hostile_rows(folder: Path, name: str, count: int) -> str:
    """Rows of the demo with HOSTILE in every text, in a file with HOSTILE in its name."""
    text = json.dumps(demo_rows(name, count)).replace('"dialog": "', f'"dialog": {json.dumps(HOSTILE)[:-1]}')
    return write_rows(folder / f"{HOSTILE}.jsonl", json.loads(text))


@pytest.mark.parametrize("program", ["dpo", "sft", "evaluate"])
def test_a_dry_run_shows_control_characters(program, tiny, tmp_path, capsys):
    name = "written_pairs_train" if program == "dpo" else "dialogues_test"
    main = {"dpo": fine_tune_dpo.main, "sft": sft.main, "evaluate": evaluate.main}[program]
    values = getattr(tiny, program)(tmp_path / "run")
    values["dataset"] = {"path": write_hostile_rows(tmp_path, name, 6)}
    values["chat_template"]["required_markers"] = [HOSTILE]
    capsys.readouterr()
    assert run_here(main, values, tmp_path, "--dry_run") == 0
    assert SHOWN_BY_RICH in read_output(capsys)


def test_a_description_and_an_error_show_control_characters(tmp_path, monkeypatch, capsys):
    file = write_hostile_rows(tmp_path, "written_pairs_train", 6)
    monkeypatch.setattr(sys, "argv", ["preferences", "--describe", file, "--dry_run"])
    assert command_line.run_main(preferences.main) == 0
    read_output(capsys)
    write_rows(Path(file), [{f"{HOSTILE}\nerror: a line of its own": 1}])
    assert command_line.run_main(preferences.main) == 2
    text = read_output(capsys)
    assert text.count(SHOWN) == 2  # the file and the column
    assert len(text.splitlines()) == 1


def test_samples_and_the_replies_of_a_chat_show_control_characters(monkeypatch, capsys):
    samples.show_prompt(1, [{"role": "user", "content": {"emotion": "neutral", "dialog": f"a\n{HOSTILE}"}}])
    samples.print_short(f"step 1, reply 1: a\t{HOSTILE}")
    reply = Reply("SFT", "neutral", 1, f"a\n\t{HOSTILE}", 3, False, 0, None)
    turn = type("Turn", (), {"replies": {"SFT": reply}, "chosen": "SFT"})
    chat_terminal.PlainView().show_turn(lambda show: turn)
    view = chat_terminal.TerminalView(chat_terminal.PlainConsole(highlight=False, width=200))

    def stream(show):
        for token in f"a{HOSTILE}":
            show("SFT", token)
        return turn

    view.show_turn(stream)
    view.show_comparison(stream)
    view.show_error(HOSTILE)
    text = read_output(capsys)
    assert text.count(SHOWN) == 3
    assert text.count(SHOWN_BY_RICH) == 3
