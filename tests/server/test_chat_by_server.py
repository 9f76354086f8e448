"""A chat whose replies a server writes."""

import pytest
from conftest import HISTORY
from stub_writer import ignore

from response_generator.chat.reply_writer import ReplyWriter
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.validation import validate_arguments

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
