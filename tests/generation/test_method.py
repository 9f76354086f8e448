"""Which settings and models are generated with `generate`, and that the run says so."""

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from response_generator.generation import method
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    build_generation_config,
)
from response_generator.generation.kv_cache import has_full_attention

SAMPLED = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": True, "top_k": 3, "top_p": 0.9, "temperature": 0.7}
SMALL = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.mark.parametrize(
    ("settings", "unknown"),
    [
        ({}, []),
        ({"repetition_penalty": 1.1, "num_beams": 1, "use_cache": True, "min_p": None, "num_return_sequences": 1}, []),
        ({"num_beams": 2}, ["num_beams"]),
        ({"min_p": 0.1, "no_repeat_ngram_size": 2}, ["min_p", "no_repeat_ngram_size"]),
        ({"min_length": 4}, ["min_length"]),
        ({"suppress_tokens": [5]}, ["suppress_tokens"]),
        ({"exponential_decay_length_penalty": [5, 1.1]}, ["exponential_decay_length_penalty"]),
    ],
)
def test_settings_that_only_generate_knows_are_found(settings, unknown, tiny_formatter):
    config = build_generation_config(SAMPLED | settings, tiny_formatter.tokenizer)
    assert sorted(method.find_unknown_settings(config)) == unknown


def choose(model, formatter, requests, settings, requested="auto") -> str:
    config = build_generation_config(settings, formatter.tokenizer)
    return method.choose_method(model, config, requested, requests)


def test_the_run_says_why_it_uses_generate(tiny_model, tiny_formatter, tiny_requests, capsys):
    assert choose(tiny_model, tiny_formatter, tiny_requests, SAMPLED) == method.CONTINUOUS_BATCHING
    assert capsys.readouterr().err == ""
    assert choose(tiny_model, tiny_formatter, tiny_requests, SAMPLED | {"num_beams": 2}) == method.GENERATE
    assert "a prompt for each sample: only it knows generation.num_beams" in capsys.readouterr().err
    assert choose(tiny_model, tiny_formatter, tiny_requests, SAMPLED, "generate") == method.GENERATE
    assert "the args ask for it" in capsys.readouterr().err


def test_only_layers_that_attend_to_all_tokens_are_decoded():
    assert has_full_attention(Qwen3ForCausalLM(Qwen3Config(**SMALL, **HEADS, head_dim=8)))
    assert has_full_attention(MistralForCausalLM(MistralConfig(**SMALL, **HEADS, sliding_window=None)))
    assert not has_full_attention(MistralForCausalLM(MistralConfig(**SMALL, **HEADS, sliding_window=4)))


def choose_second(logits: torch.Tensor, *arguments) -> torch.Tensor:
    """Scores by which the second most probable token is chosen."""
    return logits.scatter(1, logits.argmax(-1, keepdim=True), -torch.inf)


def test_both_ways_are_compared_without_sampling(tiny_model, tiny_formatter, tiny_requests, monkeypatch):
    config = build_generation_config(SAMPLED | {"repetition_penalty": 1.2}, tiny_formatter.tokenizer)
    arguments = (tiny_model, config, tiny_requests[:4])
    assert method.replies_agree(*arguments)
    monkeypatch.setattr("response_generator.generation.reply_batch.adjust_scores", choose_second)
    assert not method.replies_agree(*arguments)
    # Two tokens that are about equally probable: which of them comes first is rounding.
    monkeypatch.setattr(method, "MAX_ROUNDING_GAP", 100.0)
    assert method.replies_agree(*arguments)


@pytest.mark.parametrize("name", [method.CONTINUOUS_BATCHING, method.GENERATE])
def test_replies_come_in_the_order_of_the_requests_and_are_reported(name, tiny_model, tiny_formatter, tiny_requests):
    params = SamplingParams(build_generation_config(SAMPLED, tiny_formatter.tokenizer), 0, 2)
    reported = []
    replies = method.generate(name, tiny_model, tiny_requests, params, BatchLimit(8), reported.extend)
    assert [each.request for each in replies] == tiny_requests
    assert sorted(each.request.dialogue.index for each in reported) == [each.dialogue.index for each in tiny_requests]
    assert all(len(each.samples) == 2 for each in replies)


@pytest.mark.parametrize("name", [method.CONTINUOUS_BATCHING, method.GENERATE])
def test_replies_to_one_dialogue_with_several_targets_are_not_mixed_up(name, tiny_model, tiny_formatter, tiny_requests):
    config = build_generation_config({"max_new_tokens": 8, "do_sample": False}, tiny_formatter.tokenizer)
    dialogues = [request.dialogue for request in tiny_requests[:2]]
    requests = [
        GenerationRequest.of(dialogue.ask_for(target), tiny_formatter)
        for target in ("anger", "fear", "sadness")
        for dialogue in dialogues
    ]

    def generate(some):
        return method.generate(name, tiny_model, some, SamplingParams(config, 0, 1), BatchLimit(8), lambda _: None)

    together, alone = generate(requests), [generate([request])[0] for request in requests]
    assert [each.request for each in together] == requests
    assert [each.samples for each in together] == [each.samples for each in alone]
    assert len({tuple(each.samples[0]) for each in together}) > len(dialogues)


def test_when_memory_runs_out_finished_replies_are_kept(tiny_model, tiny_formatter, tiny_requests, monkeypatch, capsys):
    forward = type(tiny_model).forward
    params = SamplingParams(build_generation_config(SAMPLED, tiny_formatter.tokenizer), 0, samples=4)
    arguments = (method.CONTINUOUS_BATCHING, tiny_model, tiny_requests, params, BatchLimit(8))
    whole = method.generate(*arguments, lambda finished: None)
    reported, passes = [], []

    def forward_with_less_memory(self, *args, **kwargs):
        passes.append(kwargs["input_ids"].shape)
        if len(passes) > 12 and kwargs["input_ids"].shape[0] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(tiny_model), "forward", forward_with_less_memory)
    again = method.generate(*arguments, reported.extend)
    assert [each.samples for each in again] == [each.samples for each in whole]
    assert len(reported) == len(tiny_requests)
    assert "out of memory with 8 rows at once; continuing with 4" in capsys.readouterr().err
