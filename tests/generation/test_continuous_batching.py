"""Replies that are written in one batch equal those of `generate`, and do not depend on the batch."""

import copy

import pytest
from conftest import write_rows
from tiny_models import EMOTION_LABELS, demo_rows

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.data.reading import read_dialogues
from response_generator.generation import prefix
from response_generator.generation.continuous_batching import write_replies
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    build_generation_config,
)
from response_generator.generation.with_generate import sample_tokens
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.modeling.logprobs import completion_logps

GREEDY = {"max_new_tokens": 12, "min_new_tokens": 2, "do_sample": False, "repetition_penalty": 1.3}
SAMPLED = {"max_new_tokens": 12, "do_sample": True, "temperature": 2.0, "top_k": 0}


@pytest.fixture(scope="module")
def model(tiny_model, tiny_formatter):
    """The tiny model, with an EOS so probable that many replies end early."""
    model = copy.deepcopy(tiny_model)
    model.get_base_model().lm_head.weight.data[tiny_formatter.tokenizer.eos_token_id] *= 2.5
    return model


@pytest.fixture(scope="module")
def requests(tiny_formatter, tmp_path_factory) -> list[GenerationRequest]:
    file = tmp_path_factory.mktemp("data") / "dialogues.jsonl"
    dialogues, _ = read_dialogues(
        DatasetArguments(path=write_rows(file, demo_rows("dialogues_test", 24))), EMOTION_LABELS
    )
    return [GenerationRequest.of(dialogue, tiny_formatter) for dialogue in dialogues]


def write(model, formatter, requests, settings, rows, seed=0, samples=1) -> dict[tuple[int, int], list[int]]:
    """The token ids of each reply by row of the data set and sample."""
    params = SamplingParams(build_generation_config(settings, formatter.tokenizer), seed, samples)
    ordered = sorted(requests, key=lambda request: -request.length)
    return {
        (replies.request.dialogue.index, sample): tokens
        for replies in write_replies(model, ordered, params, BatchLimit(rows))
        for sample, tokens in enumerate(replies.samples)
    }


def generate(model, formatter, request, settings) -> list[int]:
    config = build_generation_config(settings, formatter.tokenizer)
    model.generation_config = model.get_base_model().generation_config = config
    return sample_tokens(model, [request.prompt_ids], config)[0]


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_without_sampling_replies_are_those_of_generate(rows, model, tiny_formatter, requests, monkeypatch):
    monkeypatch.setitem(prefix.PREFILL_TOKENS, "cpu", 400)  # several groups of prompts
    written = write(model, tiny_formatter, requests, GREEDY, rows)
    expected = {(request.dialogue.index, 0): generate(model, tiny_formatter, request, GREEDY) for request in requests}
    assert written == expected
    assert len({len(tokens) for tokens in written.values()}) > 4  # rows are replaced at different steps


@pytest.mark.parametrize("settings", [SAMPLED, SAMPLED | {"top_k": 5, "top_p": 0.8, "min_new_tokens": 6}])
def test_a_reply_is_the_same_alone_and_in_every_batch(settings, model, tiny_formatter, requests):
    alone = {}
    for request in requests:
        alone |= write(model, tiny_formatter, [request], settings, 1, seed=5, samples=3)
    for rows in (2, 7, 16, 64):
        assert write(model, tiny_formatter, requests, settings, rows, seed=5, samples=3) == alone
    assert write(model, tiny_formatter, requests[:4], settings, 2, seed=5, samples=3) == {
        key: tokens for key, tokens in alone.items() if key[0] < 4
    }  # fewer rows than samples
    few = write(model, tiny_formatter, requests[5:9], settings, 16, seed=5, samples=2)
    assert few == {key: alone[key] for key in few}
    with fast_cpu_inference(model):
        assert write(model, tiny_formatter, requests, settings, 16, seed=5, samples=3) == alone
    assert write(model, tiny_formatter, requests, settings, 16, seed=6, samples=3) != alone


def test_gold_log_probabilities_are_those_of_a_pass_of_their_own(model, tiny_formatter, requests):
    params = SamplingParams(build_generation_config(SAMPLED, tiny_formatter.tokenizer), 0, 2)
    found = {
        replies.request.dialogue.index: replies.gold_logp
        for replies in write_replies(model, requests, params, BatchLimit(8))
    }
    texts = [(request.prompt_ids, request.gold_ids) for request in requests]
    expected = completion_logps(model, texts, tiny_formatter.tokenizer.pad_token_id)
    assert [found[request.dialogue.index] for request in requests] == pytest.approx(expected, abs=1e-3)


def test_a_prompt_is_computed_once_and_finished_rows_leave(model, tiny_formatter, requests):
    shapes = []
    layer = model.get_base_model().model.layers[0]
    hook = layer.register_forward_pre_hook(lambda layer, inputs: shapes.append(inputs[0].shape))
    try:
        written = write(model, tiny_formatter, requests, SAMPLED, 16, samples=4)
    finally:
        hook.remove()
    prompts = sum(rows for rows, tokens, _ in shapes if tokens > 1)
    steps = [rows for rows, tokens, _ in shapes if tokens == 1]
    assert prompts == len(requests)
    assert max(steps) == 16
    fed = sum(len(tokens) - 1 for tokens in written.values())
    assert fed <= sum(steps) < 1.5 * fed


def test_replies_keep_to_minimum_and_maximum(model, tiny_formatter, requests):
    eos = tiny_formatter.tokenizer.eos_token_id
    written = write(model, tiny_formatter, requests, SAMPLED | {"min_new_tokens": 4}, 8, samples=3).values()
    assert all(4 <= len(tokens) <= 12 for tokens in written)
    assert all(eos not in tokens[:-1] for tokens in written)
    assert all(tokens[-1] == eos for tokens in written if len(tokens) < 12)
    assert {tokens[-1] == eos for tokens in written} == {True, False}


def test_replies_of_one_token_end_at_once(model, tiny_formatter, requests):
    written = write(model, tiny_formatter, requests, SAMPLED | {"max_new_tokens": 1}, 4)
    assert all(len(tokens) == 1 for tokens in written.values()) and len(written) == len(requests)


def test_a_limit_in_tokens_lets_more_of_the_shorter_requests_in(model, tiny_formatter, requests):
    assert BatchLimit(64, 1000).count_rows(200) == 5
    assert BatchLimit(64, 1000).count_rows(3000) == 1
    assert BatchLimit(3, 1000).count_rows(10) == 3
    assert BatchLimit(64, 1000).halve() == BatchLimit(32, 500)
    params = SamplingParams(build_generation_config(SAMPLED, tiny_formatter.tokenizer), 0, 1)
    replies = list(write_replies(model, requests, params, BatchLimit(512, 700)))
    assert len(replies) == len(requests)
