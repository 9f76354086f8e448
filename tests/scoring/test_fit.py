"""How well replies fit their dialogues: the figure, the dialogues that are drawn, the text, and what is refused."""

import math
import shutil

import numpy as np
import pytest
import torch
from tiny_models import demo_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from response_generator.config.scoring_schema import EvaluationScoringArguments
from response_generator.errors import InputError
from response_generator.scoring import fit
from response_generator.scoring.fit import FitMeter, OtherDialogues, Reply


def turn(role: str, text: str, emotion: str = "neutral") -> dict:
    return {"role": role, "content": {"emotion": emotion, "dialog": text}}


def test_the_fit_by_hand():
    found = fit.compare_dialogues(np.log([0.4, 0.2, 0.1, 0.1]))
    assert found == fit.Fit(pytest.approx(math.log(0.4 / 0.2)), True)  # 0.2 is the mean of the four
    assert fit.compare_dialogues(np.log([0.1, 0.3])) == fit.Fit(pytest.approx(math.log(0.1 / 0.2)), False)
    assert fit.compare_dialogues(np.array([-2.0, -2.0])) == fit.Fit(pytest.approx(0), False)
    only_there = fit.compare_dialogues(np.array([-1.0, -200.0, -200.0]))
    assert only_there.nats == pytest.approx(math.log(3))  # its greatest value
    assert fit.find_greatest_fit(EvaluationScoringArguments(fit_dialogues=2)) == math.log(3)


def test_a_context_has_the_words_of_the_turns_alone():
    history = [
        {"role": "system", "content": "Be kind ."},
        turn("user", "I got the job !", "happiness"),
        turn("assistant", " Really ? ", "surprise"),
        {"role": "user", "content": "Yes ."},
    ]
    assert fit.render_context(history) == "A: I got the job !\nB: Really ?\nA: Yes .\nB:"


def test_contexts_and_replies_in_tokens(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    long = [turn("user", "word " * 200)]
    contexts = fit.encode_contexts(tokenizer, {3: [turn("user", "Hi .")], 5: long})
    assert tokenizer.decode(contexts[3]) == "A: Hi .\nB:"
    assert len(contexts[5]) == fit.MAX_CONTEXT_TOKENS and tokenizer.decode(contexts[5]).endswith("word\nB:")
    assert tokenizer.decode(contexts[3] + fit.encode_reply(tokenizer, "Hello !")) == "A: Hi .\nB: Hello !"
    assert fit.encode_reply(tokenizer, "") == fit.encode_reply(tokenizer, " ") == []
    assert len(fit.encode_reply(tokenizer, "word " * 600)) == fit.MAX_REPLY_TOKENS


def test_a_tokenizer_that_writes_bos_begins_every_context_with_it(tiny):
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer._tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    contexts = fit.encode_contexts(tokenizer, {0: [turn("user", "Hi .")], 1: [turn("user", "word " * 200)]})
    assert [context[0] for context in contexts.values()] == [bos[1]] * 2
    assert tokenizer.decode(contexts[0][1:]) == "A: Hi .\nB:"
    assert len(contexts[1]) == fit.MAX_CONTEXT_TOKENS + 1
    assert bos[1] not in fit.encode_reply(tokenizer, "Hello !")


def draw_all(contexts: dict, asked, count: int, seed: int) -> dict:
    others = OtherDialogues(contexts, asked, count, seed)
    return {each: others.draw(*each) for each in asked}


def test_the_other_dialogues_have_the_same_target_where_there_are_enough():
    contexts = {index: [index] for index in range(10)}
    asked = [(index, "joy" if index < 4 else "fear") for index in contexts]
    drawn = draw_all(contexts, asked, 3, seed=1)
    assert sorted(drawn[0, "joy"]) == [1, 2, 3]
    assert set(drawn[9, "fear"]) < {4, 5, 6, 7, 8} and len(set(drawn[9, "fear"])) == 3
    drawn = draw_all(contexts, asked, 5, seed=1)  # more than there are for joy
    assert len(set(drawn[0, "joy"]) - {0}) == 5
    assert set(drawn[9, "fear"]) == {4, 5, 6, 7, 8}


def test_dialogues_are_drawn_by_seed_index_and_target_whatever_else_there_is():
    contexts = {index: [index] for index in range(30)}
    asked = [(index, target) for index in contexts for target in ("joy", "fear")]
    drawn = draw_all(contexts, asked, 7, seed=1)
    assert drawn == draw_all(dict(reversed(contexts.items())), [*reversed(asked), *asked], 7, seed=1)
    assert drawn[4, "joy"] != drawn[4, "fear"]
    assert drawn != draw_all(contexts, asked, 7, seed=2)
    without_labels = draw_all(contexts, [(index, None) for index in contexts], 7, seed=1)
    assert all(len({*others} - {index}) == 7 for (index, _), others in without_labels.items())


def test_a_dialogue_with_the_same_words_is_no_other_one():
    contexts = {0: [1], 1: [1], 2: [2], 3: [3]}
    assert sorted(draw_all(contexts, [(index, "joy") for index in contexts], 2, seed=0)[0, "joy"]) == [2, 3]


def test_the_fit_of_replies_is_that_of_a_loop_over_them(tiny):
    rows = [row["prompt"] for row in demo_rows("dialogues_test", 8)]
    histories = {index: row[:-1] for index, row in enumerate(rows)}
    gold = [Reply(index, row[-1]["content"]["emotion"], row[-1]["content"]["dialog"]) for index, row in enumerate(rows)]
    swapped = [Reply(reply.index, reply.target, gold[reply.index - 1].text) for reply in gold]
    replies = [*gold, *swapped, Reply(0, gold[0].target, "")]
    scoring = EvaluationScoringArguments(fit_model=tiny.base, fit_dialogues=3)
    asked = [(reply.index, reply.target) for reply in replies]
    found = FitMeter(scoring, 5, histories, asked).measure(replies)

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    model = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32).eval()
    contexts = fit.encode_contexts(tokenizer, histories)
    drawn = draw_all(contexts, asked, 3, seed=5)
    for reply, each in zip(replies[:-1], found, strict=False):
        ids = fit.encode_reply(tokenizer, reply.text)
        means = []
        for index in (reply.index, *drawn[reply.index, reply.target]):
            with torch.inference_mode():
                logits = model(torch.tensor([contexts[index] + ids])).logits[0, -len(ids) - 1 : -1].double()
            means.append(-torch.nn.functional.cross_entropy(logits, torch.tensor(ids)).item())
        mean = sum(math.exp(each) for each in means) / 4
        assert each.nats == pytest.approx(means[0] - math.log(mean), abs=1e-4)
        assert each.is_first == (means[0] == max(means))
    assert found[-1] == fit.Fit(0.0, False)  # no words


def test_too_few_dialogues_are_refused(tiny):
    histories = {index: [turn("user", f"Number {index}")] for index in range(3)}
    fit.check_fit_model(EvaluationScoringArguments(fit_model=tiny.base, fit_dialogues=2), histories)
    with pytest.raises(InputError, match="fit_dialogues: got 7; the data has 3 dialogues, .* only 2 others"):
        fit.check_fit_model(EvaluationScoringArguments(fit_model=tiny.base), histories)
    histories[1] = histories[0]
    with pytest.raises(InputError, match="fit_dialogues: got 2; the data has 3 dialogues, .* only 1 others"):
        fit.check_fit_model(EvaluationScoringArguments(fit_model=tiny.base, fit_dialogues=2), histories)


def test_a_model_that_cannot_be_read_is_refused(tiny, tmp_path):
    shutil.copytree(tiny.base, tmp_path / "base")
    (tmp_path / "base" / "tokenizer.json").write_text("{", encoding="utf-8")
    scoring = EvaluationScoringArguments(fit_model=str(tmp_path / "base"))
    with pytest.raises(InputError, match="scoring.fit_model: .*base: cannot be loaded"):
        fit.check_fit_model(scoring, {})
