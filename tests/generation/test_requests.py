"""Requests, and the settings of generation, which are checked before a model is loaded."""

import pytest
from transformers import AutoTokenizer

from response_generator.config.schema import EvaluateArguments
from response_generator.errors import InputError
from response_generator.generation.generation_requests import (
    BatchLimit,
    build_generation_config,
    check_context,
    split_requests,
)
from response_generator.modeling import inference


def test_the_reference_ends_with_its_eos_and_is_the_dialogues(tiny_formatter, tiny_requests):
    for request in tiny_requests:
        text = tiny_formatter.tokenizer.decode(request.gold_ids)
        assert text == request.dialogue.gold_response + tiny_formatter.tokenizer.eos_token


def test_a_prompt_longer_than_the_context_is_named(tiny_requests):
    longest = max(len(request.prompt_ids) for request in tiny_requests)
    references = max(len(request.gold_ids) for request in tiny_requests)
    check_context(tiny_requests, max_new_tokens=50, context=longest + max(50, references))
    with pytest.raises(InputError) as error:
        check_context(tiny_requests, max_new_tokens=50, context=longest + 49)
    (message,) = error.value.messages
    row = max(tiny_requests, key=lambda request: len(request.prompt_ids)).dialogue.index
    assert message.startswith(
        f"dataset, row {row}: {longest} tokens of prompt and up to 50 of reply; the model's context"
    )


def test_the_context_is_what_the_backend_loads(tiny, tmp_path):
    def context(backend: str, **keywords) -> int:
        return inference.context_length(
            EvaluateArguments(**tiny.evaluate(tmp_path, backend=backend, from_pretrained=keywords))
        )

    assert context("transformers") == context("unsloth") == 2048  # the tiny base's own
    assert context("unsloth", max_seq_length=512) == 512
    assert context("unsloth", max_seq_length=4096) == 2048


def test_settings_that_do_not_go_together_are_refused(tiny_formatter):
    with pytest.raises(InputError, match="generation: "):
        build_generation_config({"do_sample": False, "temperature": 0.5}, tiny_formatter.tokenizer)
    with pytest.raises(InputError, match="max_new_tokens"):
        build_generation_config({"max_new_tokens": -1}, tiny_formatter.tokenizer)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt_lookup_num_tokens": 3}, "only supported for batch_size = 1"),
        ({"bad_words_ids": []}, "`bad_words_ids` has to be a non-empty list"),
        ({"forced_eos_token_id": 99999}, "index 99999 is out of bounds"),
        ({"num_beams": 4, "num_beam_groups": 2}, "Group Beam Search requires `trust_remote_code=True`"),
        ({"stop_strings": "x"}, "stop strings"),
        ({"cache_implementation": "nope"}, "Invalid `cache_implementation`"),
    ],
)
def test_what_cannot_be_generated_with_is_told_before_a_model_is_loaded(tiny, settings, words):
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    working = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": True, "temperature": 2.0, "min_p": 0.1}
    assert build_generation_config(working, tokenizer).max_new_tokens == 8
    with pytest.raises(InputError, match=f"^generation: .*{words}"):
        build_generation_config(working | settings, tokenizer)


@pytest.mark.parametrize(
    ("rows", "samples", "processes", "sizes"),
    [
        (1, 1, 1, [4, 2]),
        (8, 1, 1, [6]),
        (3, 2, 1, [6]),
        (1, 3, 1, [1] * 6),
        (8, 1, 4, [2, 2, 2]),
    ],
)
def test_batches_are_several_times_what_is_generated_at_once(
    rows, samples, processes, sizes, tiny_formatter, tiny_requests, monkeypatch
):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    config = build_generation_config({"max_new_tokens": 10}, tiny_formatter.tokenizer)
    batches = split_requests(tiny_requests, config, samples, BatchLimit(rows))
    assert [len(batch) for batch in batches] == sizes
    lengths = [request.length for batch in batches for request in batch]
    assert lengths == sorted(lengths, reverse=True)
