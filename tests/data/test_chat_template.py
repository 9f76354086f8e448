"""Exact renderings of both templates; one BOS, one EOS and the required markers; bad templates are refused."""

from pathlib import Path

import pytest
from conftest import CHATML, HISTORY, LLAMA2
from tiny_models import EMOTION_LABELS
from transformers import AutoTokenizer

from response_generator.cli import preview
from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.errors import InputError

TEMPLATE_WITHOUT_EMOTION = (
    "{% for message in messages %}{% if message.role == 'user' %}{% set content = message.content %}"
    "{{ content if content is string else content.dialog }}.>"
    "{% else %}{{ message.content if message.content is string else message.content.dialog }}</s>{% endif %}"
    "{% endfor %}"
)
TEMPLATE_WITHOUT_USER_TEXT = (
    "{% for message in messages if message.role == 'assistant' %}{% set content = message.content %}"
    "{{ content if content is string else content.emotion + ' ' + content.dialog }}</s>{% endfor %}"
    "{% if target_emotion %}{{ target_emotion + ' ' }}{% endif %}"
)
REPLY = {"emotion": "anger", "dialog": "Bye . "}


def build_formatter(tiny, file, bos="<s>", eos="</s>", **arguments) -> ChatFormatter:
    tokenizer = AutoTokenizer.from_pretrained(tiny.base, bos_token=bos, eos_token=eos)
    return ChatFormatter.of(tokenizer, ChatTemplateArguments(file=file, **arguments), EMOTION_LABELS)


def test_llama2_rendering(tiny):
    formatter = build_formatter(tiny, LLAMA2, system_prompt="SYSTEM")
    assert formatter.prompt(HISTORY, "happiness") == (
        "<s>[INST]<<SYS>>\nSYSTEM\n<</SYS>>\n\n"
        "[EMOTION] happiness [/EMOTION] I got the job ! [/INST] "
        "[EMOTION] surprise [/EMOTION] Really ? Congratulations ! </s>\n"
        "<s>[INST] [EMOTION] neutral [/EMOTION] Thank you . [/INST] [EMOTION] happiness [/EMOTION] "
    )
    assert formatter.completion(HISTORY, "happiness", REPLY) == "Bye . </s>"


def test_llama2_rendering_without_a_system_prompt(tiny):
    prompt = build_formatter(tiny, LLAMA2).prompt(HISTORY[:1], "fear")
    assert prompt == "<s>[INST] [EMOTION] happiness [/EMOTION] I got the job ! [/INST] [EMOTION] fear [/EMOTION] "


def test_chatml_rendering(tiny):
    formatter = build_formatter(tiny, CHATML, "<|im_start|>", "<|im_end|>", system_prompt="SYSTEM")
    assert formatter.prompt(HISTORY, "happiness") == (
        "<|im_start|>system\nSYSTEM<|im_end|>\n"
        "<|im_start|>user happiness\nI got the job !<|im_end|>\n"
        "<|im_start|>assistant surprise\nReally ? Congratulations !<|im_end|>\n"
        "<|im_start|>user neutral\nThank you .<|im_end|>\n"
        "<|im_start|>assistant happiness\n"
    )
    assert formatter.completion(HISTORY, "happiness", REPLY) == "Bye .<|im_end|>"


def test_plain_text_messages_are_rendered_without_emotion(tiny):
    plain = [{"role": "user", "content": "Hi ."}]
    chatml = build_formatter(tiny, CHATML, "<|im_start|>", "<|im_end|>")
    assert chatml.prompt(plain, None) == "<|im_start|>user\nHi .<|im_end|>\n<|im_start|>assistant\n"
    llama2 = build_formatter(tiny, LLAMA2, required_markers=["[INST]", "[EMOTION]"])
    assert llama2.prompt(plain, None) == "<s>[INST] Hi . [/INST]"
    assert llama2.missing_markers(llama2.prompt(plain, None)) == ["[EMOTION]"]
    assert llama2.missing_markers(llama2.prompt(plain, "fear")) == []


def test_text_gets_exactly_one_bos_and_one_eos(tiny):
    formatter = build_formatter(tiny, LLAMA2)
    for prompt in ("[INST] Hi . [/INST]", "<s>[INST] Hi . [/INST]", "<s><s>[INST] Hi . [/INST]"):
        assert formatter.encode(formatter.with_one_bos(prompt)).count(formatter.tokenizer.bos_token_id) == 1
    for reply in ("Hi .", "Hi . </s>", "Hi .</s> </s>\n"):
        ids = formatter.encode(formatter.with_one_eos(reply))
        assert ids.count(formatter.tokenizer.eos_token_id) == 1
        assert ids[-1] == formatter.tokenizer.eos_token_id
    # Text is not changed, except that it gets exactly one EOS.
    assert formatter.with_one_bos("  [INST] Hi . [/INST] ") == "<s>  [INST] Hi . [/INST] "
    texts = {" Hi . ": " Hi . </s>", " Hi . </s>\n": " Hi . </s>", " Hi .\n</s> </s>": " Hi .\n</s>"}
    assert {text: formatter.with_one_eos(text) for text in texts} == texts
    conversation = formatter.encode(formatter.prompt(HISTORY, "fear") + formatter.completion(HISTORY, "fear", REPLY))
    # The published format starts each of the two exchanges with one BOS.
    assert conversation.count(formatter.tokenizer.bos_token_id) == 2
    assert conversation[0] == formatter.tokenizer.bos_token_id != conversation[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% for %}", "cannot be rendered"),
        ("{{ messages | length }}", "a dialogue must start with its prompt"),
        ("{% for message in messages %}{{ message.role }}{% endfor %}", "no </s> after a reply"),
        ("{{ messages[9].content.dialog }}", "cannot be rendered"),
        (TEMPLATE_WITHOUT_EMOTION, "ignores target_emotion: prompts for different emotions are the same, 'Hello ..>'"),
        (TEMPLATE_WITHOUT_USER_TEXT, "does not write the user's text"),
    ],
)
def test_an_unusable_template_is_refused(tiny, tmp_path, text, words):
    file = tmp_path / "bad.jinja"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        build_formatter(tiny, str(file))


def test_another_template_than_the_one_of_training_gives_a_warning(tiny, tmp_path, capsys):
    trained = build_formatter(tiny, CHATML, "<|im_start|>", "<|im_end|>")
    trained.tokenizer.save_pretrained(tmp_path)
    for file, is_other in ((CHATML, False), (LLAMA2, True)):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        preview.show_template_warnings(ChatFormatter.of(tokenizer, ChatTemplateArguments(file=file), EMOTION_LABELS))
        assert ("the adapter was saved with another chat template than" in capsys.readouterr().out) is is_other
    preview.show_template_warnings(build_formatter(tiny, LLAMA2))  # the tokenizer of the base model has no template
    assert capsys.readouterr().out == ""


def test_special_tokens_that_the_tokenizer_lacks_are_told(tiny, tmp_path, capsys):
    text = Path(CHATML).read_text(encoding="utf-8")
    file = tmp_path / "other.jinja"
    file.write_text(text.replace("<|im_start|>", "<|turn|>"), encoding="utf-8")
    formatter = build_formatter(tiny, str(file), "<|im_start|>", "<|im_end|>")
    count = len(formatter.encode("<|turn|>"))
    preview.show_template_warnings(formatter)
    expected = (
        f"'<|turn|>' of the chat template is no special token of this tokenizer: it becomes {count} ordinary tokens"
    )
    assert count > 1 and expected in capsys.readouterr().out


def test_a_prompt_without_the_emotion_of_its_reply_shows_where_they_differ(tiny, tmp_path):
    text = (
        Path(CHATML)
        .read_text(encoding="utf-8")
        .replace("header('assistant', target_emotion)", "header('assistant', none)")
    )
    file = tmp_path / "other.jinja"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        build_formatter(tiny, str(file), "<|im_start|>", "<|im_end|>")
    assert r"the prompt goes on with '\n' and the dialogue with ' neutral\nHi ." in str(error.value)
    assert "with {{ target_emotion }} as its emotion" in str(error.value)
