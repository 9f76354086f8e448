"""Tokenized dialogues for SFT: which tokens the loss uses, and which dialogues are truncated or dropped."""

from itertools import groupby

import pytest
from conftest import CHATML, HISTORY
from tiny_models import EMOTION_LABELS
from transformers import AutoTokenizer

from response_generator.cli import training_preview
from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue
from response_generator.data.dialogue_tokenization import IGNORED_LABEL, tokenize_dialogues
from response_generator.data.pair_tokenization import TOO_LONG
from response_generator.errors import InputError
from response_generator.generation.generation_requests import GenerationRequest

DIALOGUE = Dialogue(0, HISTORY, "happiness", "You earned it !")
RENDERED = (
    "<|im_start|>user happiness\nI got the job !<|im_end|>\n"
    "<|im_start|>assistant surprise\nReally ? Congratulations !<|im_end|>\n"
    "<|im_start|>user neutral\nThank you .<|im_end|>\n"
    "<|im_start|>assistant happiness\nYou earned it !<|im_end|>"
)


def texts_in_loss(row: dict, tokenizer) -> list[str]:
    tokens = zip(row["input_ids"], row["labels"], strict=True)
    parts = [(ignored, list(part)) for ignored, part in groupby(tokens, key=lambda token: token[1] == IGNORED_LABEL)]
    assert all(token == label for ignored, part in parts if not ignored for token, label in part)
    return [tokenizer.decode([token for token, _ in part]) for ignored, part in parts if not ignored]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ("all", ["Really ? Congratulations !<|im_end|>", "You earned it !<|im_end|>"]),
        ("last", ["You earned it !<|im_end|>"]),
    ],
)
def test_the_loss_is_on_replies_and_their_eos(replies, expected, tiny_formatter):
    tokens = tokenize_dialogues([DIALOGUE], tiny_formatter, None, replies)
    (row,) = tokens.rows
    tokenizer = tiny_formatter.tokenizer
    assert tokenizer.decode(row["input_ids"]) == RENDERED
    assert texts_in_loss(row, tokenizer) == expected
    assert tokens.replies == len(expected)
    assert tokens.lengths() == {
        "dialogue": [len(row["input_ids"])],
        "replies": [len(tokenizer("".join(expected), add_special_tokens=False)["input_ids"])],
    }


def test_prompts_are_those_of_generation(tiny_formatter):
    (row,) = tokenize_dialogues([DIALOGUE], tiny_formatter, None, "all").rows
    request = GenerationRequest.of(DIALOGUE, tiny_formatter)
    assert row["input_ids"] == request.prompt_ids + request.gold_ids
    assert row["labels"][request.length :] == request.gold_ids


def test_long_dialogues_are_truncated_at_their_end_or_dropped(tiny_formatter):
    whole = tokenize_dialogues([DIALOGUE], tiny_formatter, None, "all").rows[0]
    length = len(whole["input_ids"]) - 2
    cut = tokenize_dialogues([DIALOGUE], tiny_formatter, length, "all")
    assert (cut.truncated, cut.rows[0]) == (1, {key: ids[:length] for key, ids in whole.items()})
    prompt = GenerationRequest.of(DIALOGUE, tiny_formatter).length
    short = Dialogue(1, HISTORY[:1], "surprise", "Really ?")
    tokens = tokenize_dialogues([DIALOGUE, short], tiny_formatter, prompt, "last")
    assert (tokens.dropped, len(tokens.rows), tokens.read) == ({TOO_LONG: 1}, 1, 2)
    assert tokens.dropped_metrics("dataset") == {"dataset/dropped_dialogues": 1}
    with pytest.raises(InputError, match=f"in all 1 the reply is beyond {prompt} tokens"):
        tokenize_dialogues([DIALOGUE], tiny_formatter, prompt, "last")


def test_a_template_that_renders_earlier_replies_otherwise_trains_last_replies_alone(tiny, tmp_path):
    file = tmp_path / "template.jinja"  # it leaves the emotion out of all replies but the last
    with open(CHATML, encoding="utf-8") as template:
        changed = template.read().replace("header(message.role, content.emotion)", "header(message.role, shown)")
    shown = "{%- set shown = content.emotion if loop.last or message.role == 'user' else 'none' -%}"
    file.write_text(changed.replace("{%- if content is string -%}", shown + "{%- if content is string -%}"))
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    formatter = ChatFormatter.of(tokenizer, ChatTemplateArguments(file=str(file)), EMOTION_LABELS)
    assert len(tokenize_dialogues([DIALOGUE], formatter, None, "last").rows) == 1
    with pytest.raises(InputError, match='set replies: "last"'):
        tokenize_dialogues([DIALOGUE], formatter, None, "all")


# A prompt ends with " th", which is one token with "e" behind it, and another with most other letters.
MERGING_TEMPLATE = """
{%- for message in messages -%}
    {%- set content = message.content -%}
    {{- message.role + (' ' if content is string else ' ' + content.emotion) + ': a th' -}}
    {{- (content if content is string else content.dialog) + eos_token -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant ' + (target_emotion or '') + ': a th' -}}{%- endif -%}
"""


def test_a_reply_that_changes_its_prompts_last_token_is_trained_as_the_last_one_alone(tiny, tmp_path, capsys):
    file = tmp_path / "template.jinja"
    file.write_text(MERGING_TEMPLATE, encoding="utf-8")
    formatter = ChatFormatter.of(
        AutoTokenizer.from_pretrained(tiny.base), ChatTemplateArguments(file=str(file)), EMOTION_LABELS
    )
    earlier = {"role": "assistant", "content": {"emotion": "surprise", "dialog": "e end !"}}
    dialogue = Dialogue(0, [HISTORY[0], earlier, HISTORY[2]], "happiness", "You earned it !")
    tokens = tokenize_dialogues([dialogue], formatter, None, "all")
    (row,) = tokens.rows
    assert (tokens.merged, tokens.replies) == (1, 1)
    assert texts_in_loss(row, formatter.tokenizer) == ["You earned it !<|im_end|>"]
    training_preview.show_dialogue_counts("training", tokens)
    said = " ".join(capsys.readouterr().out.split())
    assert "1 earlier replies are not learned: one token spans the end of their prompt and their start" in said

    last = Dialogue(0, HISTORY[:1], "surprise", "e end !")
    tokens = tokenize_dialogues([last], formatter, None, "all")
    request = GenerationRequest.of(last, formatter)
    assert (tokens.merged, tokens.replies) == (0, 1)
    assert tokens.rows[0]["input_ids"] == request.prompt_ids + request.gold_ids
    assert texts_in_loss(tokens.rows[0], formatter.tokenizer) == ["e end !<|im_end|>"]
