"""The commands of the chat."""

import pytest
from stub_writer import ignore, start_dialogue

from response_generator.chat.commands import COMMANDS, Quit, run_line
from response_generator.errors import InputError


class RecordingView:
    def __init__(self):
        self.turns, self.comparisons, self.notes, self.help = [], [], [], []

    def show_turn(self, request):
        self.turns.append(request(ignore))

    def show_comparison(self, request):
        self.comparisons.append(request(ignore))

    def show_note(self, text):
        self.notes.append(text)

    def show_help(self, rows):
        self.help += rows


def run(*lines: str):
    dialogue, view = start_dialogue(), RecordingView()
    for line in lines:
        run_line(line, dialogue, view)
    return dialogue, view


def test_messages_and_commands_change_the_dialogue(tmp_path):
    file = tmp_path / "chat.jsonl"
    dialogue, view = run(
        "Hello !",
        "/emotion anger",
        "/my_emotion fear",
        "/adapter DPO",
        "/again",
        "/again  8 ",
        "/compare",
        "/choose base",
        "/compare What now ?",
        "/undo",
        f"/save {file}",
    )
    assert [turn.reply.response for turn in view.turns] == [
        "SFT with seed 42 after 1",
        "DPO with seed 43 after 1",
        "DPO with seed 8 after 1",
    ]
    assert [(turn.text, turn.chosen) for turn in view.comparisons] == [("Hello !", "DPO"), ("What now ?", "base")]
    assert view.comparisons[1].emotion == "fear"
    assert view.notes == [
        "the next replies are asked for anger",
        "the emotion of your next messages: fear",
        "DPO writes the next replies",
        "the dialogue continues with the reply of base",
        "removed: What now ?",
        f"appended to {file}",
    ]
    assert [turn.reply.response for turn in dialogue.turns] == ["base with seed 8 after 1"]
    assert file.is_file()


def test_help_lists_every_command():
    _, view = run("/help")
    assert [usage.split()[0] for usage, _ in view.help] == list(COMMANDS)


def test_quit():
    with pytest.raises(Quit):
        run("/quit")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/emotoin anger", "'/emotoin' is no command; did you mean /emotion? allowed: /emotion, /my_emotion,"),
        ("/", "'/' is no command; did you mean /emotion or"),
        ("/emotion", "/emotion: missing: EMOTION; target emotion of the next replies: neutral, anger,"),
        ("/undo 2", "/undo stands alone; got '2' after it"),
        ("/again -1", "/again: got '-1'; allowed: a seed"),
        ("/again " + "9" * 5000, "/again: got '999"),
        ("/again 4294967296", "allowed: 0 to 4294967295"),
    ],
)
def test_wrong_commands(line, message):
    with pytest.raises(InputError) as refused:
        run("Hello", line)
    assert message in str(refused.value)
