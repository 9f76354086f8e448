"""A chat whose replies a server writes."""

import re

import pytest
from conftest import HISTORY
from model_server import CUT
from stub_writer import ignore

from response_generator.chat.reply import ReplyStopped
from response_generator.chat.reply_writer import ReplyWriter
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError, RunError

MODELS = {"SFT": "sft", "DPO": "dpo", "base": "base"}
GREEDY = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": False, "repetition_penalty": 1.2}


def load_writer(tiny, url: str | None, **changes) -> ReplyWriter:
    values = tiny.chat(backend="transformers", from_pretrained={"dtype": "float32"}, generation=GREEDY) | changes
    if url:
        values["server"] = {"url": url, "models": MODELS} | changes.get("server", {})
    writer = ReplyWriter(validate_arguments(ChatArguments, values, "args.json"))
    writer.load()
    return writer


@pytest.mark.parametrize("name", MODELS)
def test_the_reply_is_that_of_the_model_here(name, tiny, model_server):
    shown = []
    there = load_writer(tiny, model_server.url).write(HISTORY, "anger", name, 42, lambda _, text: shown.append(text))
    assert there == load_writer(tiny, None).write(HISTORY, "anger", name, 42, ignore)
    assert len(shown) > 2 and "".join(shown).strip() == there.response


def test_the_best_of_several_and_stopping(tiny, model_server):
    generation = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": True, "top_k": 20}
    best_of = {"samples": 3, "scoring": {"emotion_model": str(tiny.folder / "choosing")}}
    writer = load_writer(tiny, model_server.url, generation=generation, best_of=best_of)
    reply = writer.write(HISTORY, "anger", "SFT", 42, ignore)
    assert reply.choice.samples == 3 and reply.response
    assert model_server.asked[-1]["n"] == 3

    def stop(name, text):
        raise ReplyStopped

    with pytest.raises(ReplyStopped):
        writer.write(HISTORY, "anger", "SFT", 42, stop)
    assert writer.write(HISTORY, "anger", "DPO", 42, ignore).response


def test_a_reply_that_is_cut_is_no_reply(tiny, model_server):
    writer = load_writer(tiny, model_server.url)
    model_server.faults.append(CUT)
    with pytest.raises(RunError, match="the answer was cut; try again"):
        writer.write(HISTORY, "anger", "SFT", 42, ignore)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"SFT": "sft", "DPO": "dpo"}, "server.models: got SFT, DPO; needed: a model for each of SFT, DPO, base"),
        (MODELS | {"DPO": "dqo"}, "server.models.DPO: got 'dqo'; did you mean 'dpo'?"),
        (MODELS | {"DPO": "base"}, "write the same replies"),
    ],
)
def test_models_that_are_not_those_of_the_chat(models, message, tiny, model_server):
    with pytest.raises(InputError, match=re.escape(message)):
        load_writer(tiny, model_server.url, server={"models": models})
