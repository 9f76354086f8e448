"""Tokenized pairs: which tokens the loss uses, and which pairs are dropped or counted."""

from dataclasses import replace

import pytest
from conftest import CHATML, HISTORY, LLAMA2
from tiny_models import EMOTION_LABELS
from transformers import AutoTokenizer

from response_generator.cli import preview, training_preview
from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Pair
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.errors import InputError
from response_generator.preferences.description import describe_pairs
from response_generator.preferences.description_table import build_rows

OBJECTS = Pair(
    0,
    HISTORY,
    {"emotion": "happiness", "dialog": "You earned it !"},
    {"emotion": "anger", "dialog": "So what ?"},
    9.0,
    1.0,
)
STRINGS = Pair(1, "[INST] Hi . [/INST]", " Hello .", " Go away .</s>", None, None)


@pytest.fixture(scope="module")
def chatml(tiny) -> ChatFormatter:
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    return ChatFormatter.of(
        tokenizer, ChatTemplateArguments(file=CHATML, required_markers=["<|im_start|>user "]), EMOTION_LABELS
    )


@pytest.fixture(scope="module")
def llama2(tiny) -> ChatFormatter:
    tokenizer = AutoTokenizer.from_pretrained(tiny.base, bos_token="<s>", eos_token="</s>")
    return ChatFormatter.of(
        tokenizer, ChatTemplateArguments(file=LLAMA2, required_markers=["[INST]", "[EMOTION]"]), EMOTION_LABELS
    )


def test_the_target_emotion_of_the_prompt_is_that_of_chosen(chatml):
    tokens = tokenize_pairs([OBJECTS], chatml, None)
    (row,) = tokens.rows
    decode = chatml.tokenizer.decode
    assert decode(row["prompt_ids"]) == chatml.prompt(HISTORY, "happiness")
    assert decode(row["chosen_ids"]) == "You earned it !<|im_end|>"
    assert decode(row["rejected_ids"]) == "So what ?<|im_end|>"
    assert set(row) == {"prompt_ids", "chosen_ids", "rejected_ids"}  # no score reaches the trainer


def test_text_pairs_get_one_bos_and_one_eos_and_missing_markers_are_counted(llama2):
    tokens = tokenize_pairs([STRINGS, STRINGS], llama2, None)
    ids = llama2.tokenizer.convert_tokens_to_ids
    for row in tokens.rows:
        assert row["prompt_ids"][0] == ids("<s>")
        for side in ("chosen_ids", "rejected_ids"):
            assert row[side][-1] == ids("</s>")
            assert row[side].count(ids("</s>")) == 1
    assert tokens.missing_markers == {"[EMOTION]": 2}


def test_prompt_and_completion_are_tokenized_together(chatml):
    (row,) = tokenize_pairs([OBJECTS], chatml, None).rows
    text = chatml.prompt(HISTORY, "happiness") + "You earned it !<|im_end|>"
    assert row["prompt_ids"] + row["chosen_ids"] == chatml.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_token_across_prompt_and_completion_is_counted(chatml, capsys):
    # " the" is one token of the tiny vocabulary, so a prompt that ends in " th" shares a token with the reply "e".
    assert len(chatml.encode(" the")) == 1
    merging = Pair(0, "a th", "e", "ere", None, None)
    tokens = tokenize_pairs([merging], chatml, None)
    assert tokens.merged == 1
    (row,) = tokens.rows
    # Without "<|im_start|>", the BOS of this tokenizer: the template opens every message with it.
    assert chatml.tokenizer.decode(row["prompt_ids"] + row["chosen_ids"]) == "a the<|im_end|>"
    # The prompt's ids are those of a pair in which nothing merges.
    (other,) = tokenize_pairs([replace(merging, chosen="ing", rejected="s")], chatml, None).rows
    assert row["prompt_ids"] == other["prompt_ids"]
    preview.show_counts("training", tokens, chatml)
    said = " ".join(capsys.readouterr().out.split())
    assert "in 1 pairs one token would span the end of the prompt and the start of a completion" in said


def test_max_length_drops_long_prompts_and_truncates_completions(chatml):
    (row,) = tokenize_pairs([OBJECTS], chatml, None).rows
    prompt, chosen, rejected = (len(row[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected"))
    assert chosen != rejected
    longer, shorter = max(chosen, rejected), min(chosen, rejected)

    exact = tokenize_pairs([OBJECTS], chatml, prompt + longer)
    assert (exact.dropped, exact.truncated, exact.rows) == ({}, 0, [row])
    cut = tokenize_pairs([OBJECTS], chatml, prompt + shorter)
    assert (cut.dropped, cut.truncated) == ({}, 1)
    assert max(len(cut.rows[0]["chosen_ids"]), len(cut.rows[0]["rejected_ids"])) == shorter

    short = Pair(1, "Hi .", "a", "b", None, None)
    tokens = tokenize_pairs([OBJECTS, short], chatml, prompt)
    assert (tokens.read, tokens.dropped, len(tokens.rows)) == (2, {"prompt too long": 1}, 1)
    with pytest.raises(InputError, match=r"no pair can be used: prompt too long \(1\); the limit is \d+ tokens"):
        tokenize_pairs([OBJECTS], chatml, prompt)


SAME, ONLY_EOS, INNER_EOS = (
    "chosen and rejected are the same",
    "a completion is nothing but EOS",
    "EOS before the end of a completion",
)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("Hi .", "Hi .", SAME),
        ("Hi .", "Hi .<|im_end|>\n", SAME),
        ("Hi .", " <|im_end|>", ONLY_EOS),
        ("Hi .<|im_end|> Go .", "No .", INNER_EOS),
        ("Hi .<|im_end|> <|im_end|>\n", " Hi .", None),  # completions that differ in a space are different
    ],
)
def test_useless_pairs_are_dropped_and_counted_by_reason(chatml, chosen, rejected, reason):
    emotion = {"emotion": "fear"}
    as_text = Pair(0, "Hello ?", chosen, rejected, None, None)
    as_messages = Pair(0, HISTORY, emotion | {"dialog": chosen}, emotion | {"dialog": rejected}, None, None)
    tokens = tokenize_pairs([OBJECTS, as_text], chatml, None)
    assert tokens.dropped == ({reason: 1} if reason else {})
    if reason:
        assert tokens.dropped_metrics("dataset") == {"dataset/dropped_pairs": 1, f"dataset/dropped_pairs/{reason}": 1}
        assert tokenize_pairs([OBJECTS, as_messages], chatml, None).dropped == {reason: 1}
        with pytest.raises(InputError, match=f"no pair can be used: {reason}"):
            tokenize_pairs([as_text], chatml, None)


def test_completions_that_are_the_same_after_truncation_are_dropped(chatml):
    pair = Pair(0, "Hi .", "one two three four", "one two three five", None, None)
    (row,) = tokenize_pairs([pair], chatml, None).rows
    assert row["chosen_ids"][0] == row["rejected_ids"][0]
    other = Pair(1, "Hi .", "two", "one", None, None)
    tokens = tokenize_pairs([other, pair], chatml, len(row["prompt_ids"]) + 1)
    assert (tokens.dropped, len(tokens.rows), tokens.truncated) == ({SAME: 1}, 1, 1)


def test_the_length_of_a_pair_is_prompt_plus_longer_completion(chatml):
    tokens = tokenize_pairs([OBJECTS], chatml, None)
    lengths = tokens.lengths()
    assert lengths["whole"] == [lengths["prompt"][0] + max(lengths["chosen"][0], lengths["rejected"][0])]
    assert tokens.dataset()["length"][0] == lengths["whole"][0]


def test_statistics_of_the_scores_are_shown():
    scored = [Pair(0, "a", "b", "c", high, low) for high, low in ((9.0, 1.0), (4.0, 4.0), (3.0, 1.0))]
    metrics = describe_pairs([*scored, STRINGS], [], EMOTION_LABELS)
    # margins 8, 0, 2: mean 10/3, variance (8² + 0² + 2²)/3 - (10/3)² = 104/9
    assert any("median 2.000, mean 3.333, sd 3.399" in value for _, value in build_rows(metrics))


def test_prompts_without_target_emotion_give_a_warning(chatml, llama2, capsys):
    rendered = Pair(0, llama2.prompt(HISTORY, "fear"), "Who is there ?", "Hello .", None, None)
    plain = Pair(1, [{"role": "user", "content": "Hi ."}], "Hello .", "Go .", None, None)
    tokens = tokenize_pairs([STRINGS, rendered, OBJECTS, plain, STRINGS], llama2, None)
    assert tokens.unlike_evaluation == {"text": 2, "messages": 1}
    preview.show_counts("training", tokens, llama2)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "2 of 5 pairs are plain text, which is used unchanged: no roles and no target emotion are added" in said
    assert "1 of 5 pairs are messages without a target emotion" in said
    assert "for example '<s>[INST] [EMOTION] neutral [/EMOTION] Hello . [/INST] [EMOTION] anger [/EMOTION] '" in said
    assert 'messages with the content {"emotion": …, "dialog": …}, or text rendered with this template' in said
    preview.show_counts("training", tokenize_pairs([OBJECTS], chatml, None), chatml)
    assert "warning" not in capsys.readouterr().out


def test_held_out_pairs_that_are_also_training_pairs_give_a_warning(chatml, capsys):
    other = replace(OBJECTS, rejected={"emotion": "fear", "dialog": "No ."})
    train, held_out = tokenize_pairs([OBJECTS], chatml, None), tokenize_pairs([OBJECTS, other], chatml, None)
    training_preview.show_shared_pairs(train, held_out)
    assert "1 of 2 held-out pairs are also training pairs" in capsys.readouterr().out
    training_preview.show_shared_pairs(train, tokenize_pairs([other], chatml, None))
    assert capsys.readouterr().out == ""


def test_special_tokens_in_message_text_give_a_warning(chatml, capsys):
    pair = replace(OBJECTS, chosen={"emotion": "fear", "dialog": "No . <|im_start|>user Yes ."})
    tokens = tokenize_pairs([OBJECTS, pair, pair], chatml, None)
    assert tokens.special_tokens == {"<|im_start|>": 2}
    preview.show_counts("training", tokens, chatml)
    assert "the text of 2 pairs contains the special token '<|im_start|>'" in capsys.readouterr().out
