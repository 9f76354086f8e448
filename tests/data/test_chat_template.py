"""Golden renderings of both templates, and one BOS, one EOS, all marks."""

import pytest
from conftest import CHATML, HISTORY, LLAMA2
from transformers import AutoTokenizer

from response_generator.cli import preview
from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.errors import InputError

ALL_BUT_EMOTION = (
    "{% for message in messages %}{% if message.role == 'user' %}{% set content = message.content %}"
    "{{ content if content is string else content.dialog }}.>"
    "{% else %}{{ message.content if message.content is string else message.content.dialog }}</s>{% endif %}"
    "{% endfor %}"
)
ALL_BUT_WORDS = (
    "{% for message in messages if message.role == 'assistant' %}{% set content = message.content %}"
    "{{ content if content is string else content.emotion + ' ' + content.dialog }}</s>{% endfor %}"
    "{% if target_emotion %}{{ target_emotion + ' ' }}{% endif %}"
)
REPLY = {"emotion": "anger", "dialog": "Bye . "}


def formatter(tiny, file, bos="<s>", eos="</s>", **more) -> ChatFormatter:
    tokenizer = AutoTokenizer.from_pretrained(tiny.base, bos_token=bos, eos_token=eos)
    return ChatFormatter.of(tokenizer, ChatTemplateArguments(file=file, **more))


def test_llama2_golden(tiny):
    of = formatter(tiny, LLAMA2, system_prompt="SYSTEM")
    assert of.prompt(HISTORY, "happiness") == (
        "<s>[INST]<<SYS>>\nSYSTEM\n<</SYS>>\n\n"
        "[EMOTION] happiness [/EMOTION] I got the job ! [/INST] "
        "[EMOTION] surprise [/EMOTION] Really ? Congratulations ! </s>\n"
        "<s>[INST] [EMOTION] neutral [/EMOTION] Thank you . [/INST] [EMOTION] happiness [/EMOTION] "
    )
    assert of.completion(HISTORY, "happiness", REPLY) == "Bye . </s>"


def test_llama2_without_a_system_prompt(tiny):
    prompt = formatter(tiny, LLAMA2).prompt(HISTORY[:1], "fear")
    assert prompt == "<s>[INST] [EMOTION] happiness [/EMOTION] I got the job ! [/INST] [EMOTION] fear [/EMOTION] "


def test_chatml_golden(tiny):
    of = formatter(tiny, CHATML, "<|im_start|>", "<|im_end|>", system_prompt="SYSTEM")
    assert of.prompt(HISTORY, "happiness") == (
        "<|im_start|>system\nSYSTEM<|im_end|>\n"
        "<|im_start|>user happiness\nI got the job !<|im_end|>\n"
        "<|im_start|>assistant surprise\nReally ? Congratulations !<|im_end|>\n"
        "<|im_start|>user neutral\nThank you .<|im_end|>\n"
        "<|im_start|>assistant happiness\n"
    )
    assert of.completion(HISTORY, "happiness", REPLY) == "Bye .<|im_end|>"


def test_plain_text_messages_have_no_emotion(tiny):
    plain = [{"role": "user", "content": "Hi ."}]
    chatml = formatter(tiny, CHATML, "<|im_start|>", "<|im_end|>")
    assert chatml.prompt(plain, None) == "<|im_start|>user\nHi .<|im_end|>\n<|im_start|>assistant\n"
    llama2 = formatter(tiny, LLAMA2, required_markers=["[INST]", "[EMOTION]"])
    assert llama2.prompt(plain, None) == "<s>[INST] Hi . [/INST]"
    assert llama2.missing_markers(llama2.prompt(plain, None)) == ["[EMOTION]"]
    assert llama2.missing_markers(llama2.prompt(plain, "fear")) == []


def test_one_bos_and_one_eos(tiny):
    of = formatter(tiny, LLAMA2)
    for prompt in ("[INST] Hi . [/INST]", "<s>[INST] Hi . [/INST]", "<s><s>[INST] Hi . [/INST]"):
        assert of.encode(of.with_one_bos(prompt)).count(of.tokenizer.bos_token_id) == 1
    for reply in ("Hi .", "Hi . </s>", "Hi .</s> </s>\n"):
        ids = of.encode(of.with_one_eos(reply))
        assert ids.count(of.tokenizer.eos_token_id) == 1
        assert ids[-1] == of.tokenizer.eos_token_id
    # Text is used as it stands: only an EOS is added, or taken away where there are several.
    assert of.with_one_bos("  [INST] Hi . [/INST] ") == "<s>  [INST] Hi . [/INST] "
    texts = {" Hi . ": " Hi . </s>", " Hi . </s>\n": " Hi . </s>", " Hi .\n</s> </s>": " Hi .\n</s>"}
    assert {text: of.with_one_eos(text) for text in texts} == texts
    conversation = of.encode(of.prompt(HISTORY, "fear") + of.completion(HISTORY, "fear", REPLY))
    # The published format begins each of the two exchanges with a BOS; none is doubled.
    assert conversation.count(of.tokenizer.bos_token_id) == 2
    assert conversation[0] == of.tokenizer.bos_token_id != conversation[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% for %}", "cannot be rendered"),
        ("{{ messages | length }}", "does not continue its prompt"),
        ("{% for message in messages %}{{ message.role }}{% endfor %}", "no </s> after a reply"),
        ("{{ messages[9].content.dialog }}", "cannot be rendered"),
        (ALL_BUT_EMOTION, "ignores target_emotion: prompts for different emotions are the same, 'Hello ..>'"),
        (ALL_BUT_WORDS, "does not write the user's words"),
    ],
)
def test_templates_that_cannot_serve(tiny, tmp_path, text, words):
    file = tmp_path / "bad.jinja"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        formatter(tiny, str(file))


def test_a_template_other_than_the_one_of_training_is_told(tiny, tmp_path, capsys):
    trained = formatter(tiny, CHATML, "<|im_start|>", "<|im_end|>")
    trained.tokenizer.save_pretrained(tmp_path)
    for file, told in ((CHATML, False), (LLAMA2, True)):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        preview.show_other_template(ChatFormatter.of(tokenizer, ChatTemplateArguments(file=file)))
        assert ("the adapter brings another chat template than" in capsys.readouterr().out) is told
    preview.show_other_template(formatter(tiny, LLAMA2))  # the base's tokenizer brings none
    assert capsys.readouterr().out == ""
