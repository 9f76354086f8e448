"""What a dialogue keeps, and that a request that makes no sense changes nothing."""

import json

import pytest
from stub_writer import StubWriter, ignore, start_dialogue
from tiny_models import EMOTION_LABELS

from response_generator.chat.reply import FoundLabels, Reply, ReplyStopped
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.library.key_rule import MAX_SEED
from response_generator.data.reading import read_dialogues
from response_generator.errors import InputError


def texts(dialogue) -> list[tuple[str, str]]:
    return [(turn.text, turn.reply.response) for turn in dialogue.turns]


def test_each_prompt_holds_the_turns_before_it():
    dialogue = start_dialogue()
    dialogue.say(" Hello ! ", ignore)
    dialogue.set_emotion("anger")
    dialogue.say("I lost it .", ignore)
    assert dialogue.writer.histories[1] == [
        {"role": "user", "content": {"emotion": "happiness", "dialog": "Hello !"}},
        {"role": "assistant", "content": {"emotion": "neutral", "dialog": "SFT with seed 42 after 1"}},
        {"role": "user", "content": {"emotion": "sadness", "dialog": "I lost it ."}},
    ]
    assert dialogue.turns[1].reply.target_emotion == "anger"


def test_the_users_emotion_can_be_set_and_found_again():
    dialogue = start_dialogue(user_emotion="fear")
    dialogue.say("one !", ignore)
    dialogue.set_user_emotion("anger")
    dialogue.say("two !", ignore)
    dialogue.set_user_emotion("auto")
    dialogue.say("three !", ignore)
    assert [turn.emotion for turn in dialogue.turns] == ["fear", "anger", "happiness"]


def test_again_replaces_the_last_reply_and_takes_the_next_seed():
    dialogue = start_dialogue()
    dialogue.say("one", ignore)
    dialogue.again(None, ignore)
    assert texts(dialogue) == [("one", "SFT with seed 43 after 1")]
    dialogue.set_adapter("DPO")
    dialogue.again(7, ignore)
    assert texts(dialogue) == [("one", "DPO with seed 7 after 1")]
    dialogue.say("two", ignore)
    assert dialogue.turns[1].reply.seed == 42  # every message begins with the seed of the args
    dialogue.again(MAX_SEED, ignore)
    assert dialogue.again(None, ignore).reply.seed == 0


def test_after_a_comparison_the_dialogue_continues_with_the_chosen_reply():
    dialogue = start_dialogue()
    dialogue.set_adapter("DPO")
    dialogue.say("one", ignore)
    dialogue.again(5, ignore)
    turn = dialogue.compare(ignore)
    assert {name: reply.seed for name, reply in turn.replies.items()} == {"SFT": 5, "DPO": 5, "base": 5}
    assert turn.chosen == "DPO"
    dialogue.choose("base")
    assert dialogue.adapter == "base"
    dialogue.say_to_all("two", ignore)
    assert texts(dialogue) == [("one", "base with seed 5 after 1"), ("two", "base with seed 42 after 3")]


def test_undo_and_new_dialogue():
    dialogue = start_dialogue()
    dialogue.say("one", ignore)
    dialogue.say("two", ignore)
    assert dialogue.undo() == "two"
    assert [turn.text for turn in dialogue.turns] == ["one"]
    dialogue.start_new()
    assert dialogue.turns == ()


@pytest.mark.parametrize("method", ["say", "say_to_all", "again", "compare"])
def test_a_stopped_reply_leaves_the_dialogue_as_it_was(method):
    dialogue = start_dialogue()
    dialogue.say("one", ignore)
    before = dialogue.turns

    def stop(name, text):
        raise ReplyStopped

    values = {"say": ["two"], "say_to_all": ["two"], "again": [None], "compare": []}[method]
    with pytest.raises(ReplyStopped):
        getattr(dialogue, method)(*values, stop)
    assert dialogue.turns == before


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("set_emotion", ["hapiness"], "'hapiness' is no label; did you mean happiness? allowed: neutral, anger,"),
        ("set_emotion", ["auto"], "'auto' is no label"),
        ("set_user_emotion", ["x"], "surprise, auto"),
        ("set_adapter", ["sft"], "'sft' is no adapter; did you mean SFT? allowed: SFT, DPO, base"),
        ("say", [" \n", ignore], "the message is empty"),
        ("say", ["a \udcff", ignore], "the message holds U+DCFF, which is half a character"),
        ("again", [MAX_SEED + 1, ignore], "allowed: 0 to 4294967295"),
        ("choose", ["DPO"], "compare the adapters first"),
        ("save", ["chat.txt"], "ends with .jsonl"),
        ("save", ["missing_folder/chat.jsonl"], "cannot be written (No such file or directory)"),
        ("save", ["$MISSING/chat.jsonl"], "MISSING"),
    ],
)
def test_wrong_requests_say_what_is_allowed(method, values, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dialogue = start_dialogue()
    dialogue.say("one", ignore)
    before = vars(dialogue).copy()
    with pytest.raises(InputError) as refused:
        getattr(dialogue, method)(*values)
    assert message in str(refused.value)
    assert vars(dialogue) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["again", "compare", "undo", "to_row"])
def test_without_a_message_there_is_nothing_to_change(method):
    values = {"again": [None, ignore], "compare": [ignore]}.get(method, [])
    with pytest.raises(InputError, match="there is no message yet"):
        getattr(start_dialogue(), method)(*values)


def test_saved_dialogues_are_a_data_set_for_evaluation(tmp_path):
    dialogue = start_dialogue()
    file = tmp_path / "chat.jsonl"
    dialogue.say("Hello !", ignore)
    dialogue.set_emotion("anger")
    dialogue.say("Why ?", ignore)
    assert dialogue.save(str(file)) == file
    dialogue.undo()
    dialogue.save(str(file))
    (first, second), skipped = read_dialogues(DatasetArguments(path=str(file)), EMOTION_LABELS)
    assert not skipped
    assert (first.target_emotion, first.gold_response) == ("anger", "SFT with seed 42 after 3")
    assert [turn["content"]["dialog"] for turn in first.history] == ["Hello !", "SFT with seed 42 after 1", "Why ?"]
    assert (second.target_emotion, len(second.history)) == ("neutral", 1)
    replies = json.loads(file.read_text(encoding="utf-8").splitlines()[0])["replies"]
    assert [(reply["adapter"], reply["seed"], reply["predicted_emotion"]) for reply in replies] == [
        ("SFT", 42, "anger"),
        ("SFT", 42, "anger"),
    ]


def test_an_empty_reply_is_no_row(tmp_path):
    class EmptyWriter(StubWriter):
        def write(self, history, emotion, name, seed, show):
            return Reply(name, emotion, seed, "", 1, False, 0, None)

    dialogue = start_dialogue(EmptyWriter())
    dialogue.say("one", ignore)
    with pytest.raises(InputError, match="the dialogue is no row of a data set"):
        dialogue.save(str(tmp_path / "chat.jsonl"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("reply", "facts"),
    [
        (Reply("SFT", "anger", 42, "No .", 3, False, 0, None), "target anger; 3 tokens; seed 42"),
        (
            Reply("SFT", "anger", 42, "No .", 3, False, 0, FoundLabels("anger", 0.811, 0.811, "clean", 0.5)),
            "target anger followed (0.81); clean (0.50); 3 tokens; seed 42",
        ),
        (
            Reply("SFT", "anger", 42, "No .", 3, False, 0, FoundLabels(None, None, None, "clean", 0.5)),
            "target anger; clean (0.50); 3 tokens; seed 42",
        ),
        (
            Reply("SFT", "anger", 42, "No .", 8, True, 2, FoundLabels("fear", 0.5, 0.25, "noise", 1.0)),
            "target anger not followed (0.25), it is fear (0.50); noise (1.00); 8 tokens; seed 42; "
            "cut off by max_new_tokens; without the oldest 2 turns, for which the context is too short",
        ),
    ],
)
def test_the_facts_of_a_reply(reply, facts):
    assert reply.describe() == facts
