"""The commands of the chat."""

import pytest
from stub_writer import StubWriter, ignore, start_dialogue
from tiny_models import EMOTION_LABELS

from response_generator.chat.commands import COMMANDS, Quit, run_line
from response_generator.errors import InputError
from response_generator.labels import Labels


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


def run(*lines: str, labels: Labels = EMOTION_LABELS):
    dialogue, view = start_dialogue(StubWriter(labels)), RecordingView()
    for line in lines:
        run_line(line, dialogue, view)
    return dialogue, view


def test_messages_and_commands_change_the_dialogue(tmp_path):
    file = tmp_path / "chat.jsonl"
    dialogue, view = run(
        "Hello !",
        "/emotion anger",
        "/user_emotion fear",
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
        "the label of your next messages: fear",
        "DPO writes the next replies",
        "the dialogue continues with the reply of base",
        "removed: What now ?",
        f"appended to {file}",
    ]
    assert [turn.reply.response for turn in dialogue.turns] == ["base with seed 8 after 1"]
    assert file.is_file()


def test_help_lists_every_command():
    _, view = run("/help")
    assert [usage.split()[0] for usage, _ in view.help] == ["/emotion", "/user_emotion", *COMMANDS]


def test_own_labels_without_a_neutral_one():
    dialogue, view = run("Hello", "/emotion rude", "/again", "/help", labels=Labels(("polite", "rude"), None))
    assert [turn.reply.target_emotion for turn in view.turns] == ["polite", "rude"]
    assert [turn.reply.is_followed for turn in view.turns] == [False, True]
    assert dialogue.turns[0].emotion == "polite"
    assert view.help[0] == ("/emotion LABEL", "target label of the next replies: polite, rude")


def test_without_labels_there_is_none_to_choose():
    dialogue, view = run("Hello", "Why ?", "/help", labels=Labels((), None))
    assert [usage.split()[0] for usage, _ in view.help] == list(COMMANDS)
    assert dialogue.writer.histories[1] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "SFT with seed 42 after 1"},
        {"role": "user", "content": "Why ?"},
    ]
    assert view.turns[0].reply.describe() == "7 tokens; seed 42"
    assert dialogue.to_row()["prompt"][-1] == {"role": "assistant", "content": "SFT with seed 42 after 3"}
    with pytest.raises(InputError, match="'/emotion' is no command; .*allowed: /adapter"):
        run("/emotion polite", labels=Labels((), None))


def test_quit():
    with pytest.raises(Quit):
        run("/quit")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/emotoin anger", "'/emotoin' is no command; did you mean /emotion? allowed: /emotion, /user_emotion,"),
        ("/", "'/' is no command; did you mean /emotion or"),
        ("/emotion", "/emotion: missing: LABEL; target label of the next replies: neutral, anger,"),
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
