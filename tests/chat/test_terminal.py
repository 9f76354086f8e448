"""The chat in a real terminal: another process, and what a user types there."""

import io
import re
import signal
import sys

import pexpect
import pytest
from script_process import HANG_SECONDS
from script_runs import script_environment, write_args
from stub_writer import start_dialogue
from tiny_models import ROOT

from response_generator.chat.terminal import chat_in_terminal

REPLY_TOKENS = 150  # enough that Ctrl-C comes before the end
PROMPT = r"\[(\w+), (\w+)\] you: "
STOPPED = "stopped; the dialogue is as it was before"


@pytest.fixture(scope="module")
def terminal(tiny, tmp_path_factory):
    """The program, once it waits for the first line."""
    folder = tmp_path_factory.mktemp("terminal")
    generation = {"max_new_tokens": REPLY_TOKENS, "min_new_tokens": REPLY_TOKENS, "do_sample": True, "top_k": 3}
    file = write_args(folder, tiny.chat(generation=generation))
    program = pexpect.spawn(
        sys.executable,
        ["-m", "response_generator.chat", "--json_file", file],
        cwd=folder,
        env=script_environment() | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "INPUTRC": "/dev/null"},
        encoding="utf-8",
        dimensions=(60, 120),
        timeout=HANG_SECONDS,
    )
    program.expect(PROMPT)
    yield program
    program.close(force=True)


def enter(terminal, line: str) -> str:
    """Types a line, and returns what is shown until the next prompt, without colors."""
    terminal.sendline(line)
    terminal.expect(PROMPT)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.before)


def test_a_user_chats_stops_a_reply_and_leaves(terminal):
    """One dialogue, because the program takes long to start."""
    shown = enter(terminal, "Hello .")
    assert f"{REPLY_TOKENS} tokens; seed 42; cut off by max_new_tokens" in shown
    facts = shown.splitlines()[-1]
    assert facts.startswith("target neutral")

    terminal.sendline("/again")
    terminal.expect(r"/again\r\n.*\w\w")  # the echo, and the beginning of the reply
    terminal.sendintr()
    terminal.expect(PROMPT)
    assert STOPPED in terminal.before
    assert "tokens; seed" not in terminal.before
    terminal.sendintr()
    terminal.expect(PROMPT)
    assert "no reply is being written; Ctrl-D or /quit leaves" in terminal.before

    shown = enter(terminal, "/again 42")
    assert facts in shown  # the same reply to the same dialogue

    shown = enter(terminal, "/emotoin anger")
    assert "'/emotoin' is no command; did you mean /emotion?" in shown
    shown = enter(terminal, "")
    assert shown.strip() == ""
    enter(terminal, "/emotion anger")
    enter(terminal, "/adapter DPO")
    assert terminal.match.groups() == ("DPO", "anger")

    shown = enter(terminal, "/compare")
    for name in ("SFT", "DPO", "base"):
        assert re.search(f"─ {name} ─", shown)
    assert shown.count(f"{REPLY_TOKENS} tokens") == 3
    assert "the dialogue continues with the reply of DPO; /choose takes another one" in shown

    terminal.sendline("/compare Another message .")
    terminal.expect("─ SFT ─")
    terminal.sendintr()
    terminal.expect(PROMPT)
    assert STOPPED in terminal.before
    assert "removed: Hello ." in enter(terminal, "/undo")

    terminal.sendline("/quit")
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0
    assert "Traceback" not in terminal.before


@pytest.mark.parametrize(
    "ending", [lambda: signal.raise_signal(signal.SIGTERM), lambda: signal.raise_signal(signal.SIGHUP), input]
)
def test_signals_and_the_end_of_the_input_leave(ending, monkeypatch, capsys):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, where nohup started the tests
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr("builtins.input", lambda prompt, end=ending: end())
    try:
        chat_in_terminal(start_dialogue())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "adapters: SFT, DPO, base; /help lists the commands" in capsys.readouterr().out
