"""`python -m response_generator.chat` in a pipe, and what it refuses."""

import io
import re
import signal
import socket
import sys

import pytest
from conftest import read_lines
from script_runs import run_here
from tiny_models import EMOTION_LABELS

from response_generator.chat import __main__ as chat
from response_generator.chat.server import ChatServer
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.data.reading import read_dialogues
from response_generator.errors import InputError

LINES = ["Hello .", "", "/adapter DPO", "/again 7", "/compare What is new ?", "/help", "/quit", "never read"]


def answer(tiny, tmp_path, monkeypatch, lines: list, *options: str, **changes) -> int:
    """The exit status of a chat whose standard input is `lines`."""
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
    return run_here(chat.main, tiny.chat(**changes), tmp_path, *options)


def test_a_pipe_gets_one_line_for_each_reply(tiny, tmp_path, monkeypatch, capsys):
    file = tmp_path / "chat.jsonl"
    lines = [*LINES[:-2], f"/save {file}", *LINES[-2:]]
    assert answer(tiny, tmp_path, monkeypatch, lines) == 0
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert [name for name, _, _ in rows] == ["SFT", "DPO", "SFT", "DPO", "base"]
    assert [facts.rpartition("seed ")[2].split(";")[0] for _, _, facts in rows] == ["42", "7", "42", "42", "42"]
    assert all("target neutral" in facts for _, _, facts in rows)
    for note in ("DPO writes the next replies", "/undo\tremove your last message", f"appended to {file}"):
        assert note in said.err
    (dialogue,), _ = read_dialogues(DatasetArguments(path=str(file)), EMOTION_LABELS)
    assert [" ".join(turn["content"]["dialog"].split()) for turn in dialogue.history][0] == "Hello ."
    assert len(dialogue.history) == 3

    assert answer(tiny, tmp_path, monkeypatch, LINES) == 0
    assert capsys.readouterr().out == said.out


@pytest.mark.parametrize(
    ("labels", "facts", "content"),
    [
        (["polite", "rude"], ["target polite; ", "target rude; "], {"emotion": "polite", "dialog": "Hello ."}),
        ([], ["", ""], "Hello ."),
    ],
)
def test_own_labels_and_none(labels, facts, content, tiny, tmp_path, monkeypatch, capsys):
    lines = ["Hello .", *(["/emotion rude"] if labels else []), "/again", f"/save {tmp_path / 'chat.jsonl'}"]
    assert answer(tiny, tmp_path, monkeypatch, lines, labels=labels, scoring=None) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert all(
        re.fullmatch(rf"{start}\d tokens; seed 4\d.*", found) for start, (*_, found) in zip(facts, rows, strict=True)
    )
    (row,) = read_lines(tmp_path / "chat.jsonl")
    assert row["prompt"][0] == {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Hello .", "/emotion joyful"], "error: line 2: 'joyful' is no label; allowed: neutral,"),
        (["", "/agian"], "error: line 2: '/agian' is no command; did you mean /again?"),
        (["\udcff"], "error: line 1: the message holds U+DCFF"),
    ],
)
def test_a_wrong_line_ends_the_pipe(lines, message, tiny, tmp_path, monkeypatch, capsys):
    assert answer(tiny, tmp_path, monkeypatch, lines) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.out.splitlines()) == len([line for line in lines if line == "Hello ."])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapters": {}}, "adapters: got {} (object); needed: one or more adapters"),
        ({"adapters": {"a b": "none"}}, "allowed in a name: up to 40 letters, digits, _ and -"),
        ({"adapters": {"SFT": "missing/folder/adapter"}}, "adapters.SFT: "),
        ({"target_emotion": "joyful"}, "target_emotion: got 'joyful'"),
        ({"generation": {"num_beams": 2, "max_new_tokens": 8}}, "generation.num_beams: got 2; allowed: 1"),
        ({"output_dir": "runs/chat"}, "output_dir"),
    ],
)
def test_wrong_args_are_refused(changes, message, tiny, tmp_path, capsys):
    assert run_here(chat.main, tiny.chat(**changes), tmp_path) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_checks_all_and_loads_nothing(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("response_generator.modeling.inference.load_model", None)
    template = tiny.chat()["chat_template"] | {"required_markers": ["[EMOTION]"]}
    assert run_here(chat.main, tiny.chat(chat_template=template), tmp_path, "--dry_run") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"SFT: {tiny.adapter}" in said.err
    assert "base: the bare base model" in said.err
    assert "chat_template.required_markers: the prompt does not contain '[EMOTION]'" in said.err
    assert "context: 2048 tokens; a prompt: '<|im_start|>" in said.err


def test_a_busy_port_is_refused_before_the_models_are_loaded(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("response_generator.modeling.inference.load_model", None)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert run_here(chat.main, tiny.chat(), tmp_path, "--serve", str(port)) == 2
    assert f"127.0.0.1 port {port} cannot be used (Address already in use); name another" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["192.0.2.1", "not a name"])
def test_an_address_of_another_machine_is_not_answered_by_another_port(host):
    with pytest.raises(InputError, match=r"cannot be used \(.*\); name an address of this machine: --host"):
        ChatServer(host, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host goes with --serve"),
        (["--serve", "65536"], "--serve 65536: allowed: 0 to 65535"),
    ],
)
def test_wrong_options(options, message, tiny, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run_here(chat.main, tiny.chat(), tmp_path, *options)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_ends_the_server(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ChatServer, "service_actions", lambda server: signal.raise_signal(signal.SIGINT))
    assert run_here(chat.main, tiny.chat(), tmp_path, "--serve", "0") == 0
    port = int(re.search(r"open http://127.0.0.1:(\d+)/ in a browser", capsys.readouterr().out)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
