"""Replies of the tiny models: streamed, reproducible, of the chosen adapter, labeled, within the context."""

import pytest
from stub_writer import ignore

from response_generator.chat.reply import ReplyStopped
from response_generator.chat.reply_writer import ReplyWriter
from response_generator.chat.text_streamer import TextStreamer
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError
from response_generator.scoring import classifiers

HISTORY = [{"role": "user", "content": {"emotion": "neutral", "dialog": "Hello , how are you ?"}}]


def make_turns(count: int, text: str) -> list[dict]:
    return [
        {"role": ("user", "assistant")[at % 2], "content": {"emotion": "fear", "dialog": text}} for at in range(count)
    ]


def load_writer(tiny, **changes) -> ReplyWriter:
    writer = ReplyWriter(validate_arguments(ChatArguments, tiny.chat(**changes), "args.json"))
    writer.load()
    return writer


def test_the_same_seed_gives_the_same_reply_and_each_adapter_its_own(chat_writer):
    def write(name: str, seed: int, emotion: str = "anger") -> str:
        return chat_writer.write(HISTORY, emotion, name, seed, ignore).response

    first = {name: write(name, 42) for name in chat_writer.names}
    assert len(set(first.values())) == 3
    assert {name: write(name, 42) for name in chat_writer.names} == first
    assert write("SFT", 43) != first["SFT"]
    assert write("SFT", 42, "happiness") != first["SFT"]


def test_an_adapter_replies_as_if_it_were_the_only_one(chat_writer, tiny):
    for name, source in chat_writer.arguments.adapters.items():
        alone = load_writer(tiny, adapters={"alone": source}, scoring=None)
        reply = alone.write(HISTORY, "anger", "alone", 42, ignore)
        assert reply.response == chat_writer.write(HISTORY, "anger", name, 42, ignore).response
        assert (reply.labels, reply.is_followed) == (None, None)
        assert alone.find_emotion("Hello") is None


def test_the_parts_that_are_shown_are_the_reply(chat_writer):
    parts = []
    reply = chat_writer.write(HISTORY, "anger", "DPO", 42, lambda name, text: parts.append((name, text)))
    assert {name for name, _ in parts} == {"DPO"}
    assert len([text for _, text in parts if text]) > 1
    assert reply.response.startswith("".join(text for _, text in parts).strip())


def test_a_stopped_reply_leaves_the_model_as_it_was(chat_writer):
    def stop(name, text):
        raise ReplyStopped

    before = chat_writer.write(HISTORY, "anger", "base", 42, ignore)
    with pytest.raises(ReplyStopped):
        chat_writer.write(HISTORY, "anger", "SFT", 42, stop)
    assert chat_writer.write(HISTORY, "anger", "base", 42, ignore) == before


def test_a_character_of_several_tokens_is_shown_whole(chat_writer):
    tokenizer, parts = chat_writer.tokenizer, []
    tokens = tokenizer("a 🙂 b", add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    assert len(tokens) > 6  # the character alone has four
    streamer = TextStreamer(tokenizer, parts.append)
    streamer.put(tokens)  # the prompt
    for token in tokens:
        streamer.put(token[None])
    assert "".join(parts) == "a 🙂 b"
    assert not any("\ufffd" in part for part in parts)


def test_the_labels_are_those_of_evaluation(chat_writer):
    scoring = chat_writer.arguments.scoring
    reply = chat_writer.write(HISTORY, "anger", "SFT", 42, ignore)
    (emotion,) = classifiers.load_emotion_classifier(scoring).classify([reply.response])
    (gibberish,) = classifiers.load_gibberish_classifier(scoring).classify([reply.response])
    assert (reply.labels.predicted_emotion, reply.labels.emotion_score) == (emotion.label, emotion.score)
    assert reply.labels.target_probability == emotion.probabilities["anger"]
    assert (reply.labels.gibberish_label, reply.labels.gibberish_score) == (gibberish.label, gibberish.score)
    assert reply.is_followed == (emotion.label == "anger")
    assert reply.new_tokens <= 8


def test_the_oldest_turns_are_left_out_when_the_context_is_too_short(chat_writer):
    """The prompt of all turns is too long, and one of two turns less is not; a turn is left out with its reply."""
    text = " ".join(["word"] * 100)
    history = make_turns(1, text)
    while len(chat_writer.formatter.encode(chat_writer.formatter.prompt(history, "anger"))) <= chat_writer.room:
        history = [*make_turns(2, text), *history]
    reply = chat_writer.write(history, "anger", "SFT", 42, ignore)
    assert reply.left_out_turns == 2
    prompt_ids, _ = chat_writer.fit(history, "anger")
    assert prompt_ids == chat_writer.formatter.encode(chat_writer.formatter.prompt(history[2:], "anger"))
    assert chat_writer.write(history[2:], "anger", "SFT", 42, ignore).left_out_turns == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word " * 2100, "the model's context of 2048 has room for 2040 beside generation.max_new_tokens (8)"),
        ("Hello <|im_end|>", "the message holds <|im_end|>"),
    ],
)
def test_messages_that_are_no_prompt_are_refused(chat_writer, text, message):
    with pytest.raises(InputError) as refused:
        chat_writer.write(make_turns(1, text), "anger", "SFT", 42, ignore)
    assert message in str(refused.value)


def test_settings_that_leave_no_room_for_a_prompt_are_refused_before_the_model_is_loaded(tiny):
    generation = {"max_new_tokens": 2040, "do_sample": True}
    with pytest.raises(InputError, match="got 2040; the model's context of 2048 tokens leaves no room for a prompt"):
        ReplyWriter(validate_arguments(ChatArguments, tiny.chat(generation=generation), "args.json"))
