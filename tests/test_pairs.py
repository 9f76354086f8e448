"""Pairs as tokens: where the loss falls, and what is counted."""

import pytest
from conftest import CHATML, HISTORY, LLAMA2
from transformers import AutoTokenizer

from response_generator.arguments import ChatTemplateArguments
from response_generator.chat_template import Renderer
from response_generator.data import Pair
from response_generator.errors import InputError
from response_generator.pairs import tokenised

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
def chatml(tiny) -> Renderer:
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    return Renderer.of(tokenizer, ChatTemplateArguments(file=CHATML, marks=["<|im_start|>user "]))


@pytest.fixture(scope="module")
def llama2(tiny) -> Renderer:
    tokenizer = AutoTokenizer.from_pretrained(tiny.base, bos_token="<s>", eos_token="</s>")
    return Renderer.of(tokenizer, ChatTemplateArguments(file=LLAMA2, marks=["[INST]", "[EMOTION]"]))


def test_both_replies_answer_the_prompt_of_the_chosen_emotion(chatml):
    tokens = tokenised([OBJECTS], chatml, None)
    (row,) = tokens.rows
    decode = chatml.tokenizer.decode
    assert decode(row["prompt_ids"]) == chatml.prompt(HISTORY, "happiness")
    assert decode(row["chosen_ids"]) == "You earned it !<|im_end|>"
    assert decode(row["rejected_ids"]) == "So what ?<|im_end|>"
    assert set(row) == {"prompt_ids", "chosen_ids", "rejected_ids"}  # no score reaches the trainer


def test_text_gets_one_bos_one_eos_and_its_missing_marks_counted(llama2):
    tokens = tokenised([STRINGS, STRINGS], llama2, None)
    ids = llama2.tokenizer.convert_tokens_to_ids
    for row in tokens.rows:
        assert row["prompt_ids"][0] == ids("<s>")
        for side in ("chosen_ids", "rejected_ids"):
            assert row[side][-1] == ids("</s>")
            assert row[side].count(ids("</s>")) == 1
    assert tokens.missing_marks == {"[EMOTION]": 2}


def test_tokens_are_those_of_the_whole_text(chatml):
    (row,) = tokenised([OBJECTS], chatml, None).rows
    whole = chatml.prompt(HISTORY, "happiness") + "You earned it !<|im_end|>"
    assert row["prompt_ids"] + row["chosen_ids"] == chatml.tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_a_prompt_that_merges_with_its_reply_is_counted(chatml):
    # " the" is one token of the tiny vocabulary, so a prompt that ends in " th" shares a token with the reply "e".
    assert len(chatml.encode(" the")) == 1
    merging = Pair(0, "a th", "e", "e", None, None)
    tokens = tokenised([merging], chatml, None)
    assert tokens.merged == 1
    (row,) = tokens.rows
    assert chatml.tokenizer.decode(row["prompt_ids"] + row["chosen_ids"]) == "<|im_start|>a the<|im_end|>"


def test_max_length_drops_prompts_and_cuts_completions_and_says_so(chatml):
    (row,) = tokenised([OBJECTS], chatml, None).rows
    prompt, chosen, rejected = (len(row[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected"))
    assert chosen != rejected
    longer, shorter = max(chosen, rejected), min(chosen, rejected)

    exact = tokenised([OBJECTS], chatml, prompt + longer)
    assert (exact.dropped, exact.truncated, exact.rows) == (0, 0, [row])
    cut = tokenised([OBJECTS], chatml, prompt + shorter)
    assert (cut.dropped, cut.truncated) == (0, 1)
    assert max(len(cut.rows[0]["chosen_ids"]), len(cut.rows[0]["rejected_ids"])) == shorter

    short = Pair(1, "Hi .", "a", "b", None, None)
    some = tokenised([OBJECTS, short], chatml, prompt)
    assert (some.read, some.dropped, len(some.rows)) == (2, 1, 1)
    with pytest.raises(InputError, match="leave no room"):
        tokenised([OBJECTS], chatml, prompt)


def test_lengths_are_of_the_longer_reply(chatml):
    tokens = tokenised([OBJECTS], chatml, None)
    lengths = tokens.lengths()
    assert lengths["whole"] == [lengths["prompt"][0] + max(lengths["chosen"][0], lengths["rejected"][0])]
    assert tokens.dataset()["length"][0] == lengths["whole"][0]


def test_scores_are_summed_up_for_people_alone(capsys):
    from response_generator.preview import show_scores

    scored = [Pair(0, "a", "b", "c", high, low) for high, low in ((9.0, 1.0), (4.0, 4.0), (3.0, 1.0))]
    show_scores([*scored, STRINGS])
    # margins 8, 0, 2: mean 10/3, variance (8² + 0² + 2²)/3 - (10/3)² = 104/9
    assert "n 3, median 2.000, mean 3.333, SD 3.399, not positive 1" in " ".join(capsys.readouterr().out.split())
