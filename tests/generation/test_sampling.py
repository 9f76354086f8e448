"""Sampling: padding must not change replies, a seed must fix them, borrowed state must come back."""

import pytest
import torch
from transformers import AutoTokenizer

from response_generator.config.schema import EvaluateArguments
from response_generator.errors import InputError
from response_generator.evaluation import models
from response_generator.generation.sampling import (
    GenerationRequest,
    SamplingParams,
    build_generation_config,
    check_context,
    draw_seed,
    generate_batch,
    make_batches,
    truncate_at_eos,
)


def answered(model, formatter, requests, settings, size, seed=0, samples=1):
    """Replies to `requests`, in their order and that of the samples."""
    config = build_generation_config(settings, formatter.tokenizer)
    sampling = SamplingParams(config, seed, samples)
    replies = [
        reply
        for batch in make_batches(requests, size, length)
        for completions in generate_batch(model, formatter.tokenizer, batch, sampling)
        for reply in completions
    ]
    return sorted(replies, key=lambda reply: (reply.request.dialogue.index, reply.sample))


def length(request: GenerationRequest) -> int:
    return request.length


GREEDY = {"max_new_tokens": 12, "do_sample": False}
HOT = {"max_new_tokens": 12, "do_sample": True, "temperature": 2.0, "top_k": 0, "top_p": 1.0}


def words(replies) -> list[str]:
    return [reply.response for reply in replies]


def test_a_batch_of_padded_prompts_says_what_each_prompt_says_alone(tiny_model, tiny_formatter, tiny_requests):
    assert len({len(request.prompt_ids) for request in tiny_requests}) > 3  # else nothing is padded
    together = answered(tiny_model, tiny_formatter, tiny_requests, GREEDY, size=6)
    alone = answered(tiny_model, tiny_formatter, tiny_requests, GREEDY, size=1)
    assert words(together) == words(alone)
    assert [reply.request for reply in together] == tiny_requests


def test_a_seed_fixes_the_replies_and_another_changes_them(tiny_model, tiny_formatter, tiny_requests):
    first, again, other = (
        words(answered(tiny_model, tiny_formatter, tiny_requests, HOT, 4, seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_reply_does_not_depend_on_what_was_drawn_before_it(tiny_model, tiny_formatter, tiny_requests):
    """What resumption and several processes rest on."""
    everything = answered(tiny_model, tiny_formatter, tiny_requests, HOT, 2, seed=1, samples=2)
    last = make_batches(tiny_requests, 2, length)[-1]
    torch.rand(5)
    alone = answered(tiny_model, tiny_formatter, list(last), HOT, 2, seed=1, samples=2)
    assert words(alone) == words(reply for reply in everything if reply.request in last)


def test_samples_of_a_prompt_differ_and_the_first_is_that_of_a_single_one(tiny_model, tiny_formatter, tiny_requests):
    single = answered(tiny_model, tiny_formatter, tiny_requests, HOT, 4)
    several = answered(tiny_model, tiny_formatter, tiny_requests, HOT, 4, samples=3)
    assert [reply.sample for reply in several] == [0, 1, 2] * len(tiny_requests)
    assert words(reply for reply in several if reply.sample == 0) == words(single)
    assert all(len({reply.response for reply in several[at : at + 3]}) == 3 for at in range(0, len(several), 3))


def test_seeds_of_neighboring_runs_share_no_draw():
    seeds = {draw_seed(seed, sample, row) for seed in range(10) for sample in range(4) for row in range(50)}
    assert len(seeds) == 10 * 4 * 50


def test_min_and_max_new_tokens_hold_and_padding_side_comes_back(tiny_model, tiny_formatter, tiny_requests):
    before = tiny_formatter.tokenizer.padding_side
    assert before == "right"
    settings = {"max_new_tokens": 7, "min_new_tokens": 3, "do_sample": True}
    replies = answered(tiny_model, tiny_formatter, tiny_requests, settings, 4)
    assert all(3 <= reply.new_tokens <= 7 for reply in replies)
    # No EOS within the limit: it is the limit that stopped them.
    assert all(reply.new_tokens == 7 for reply in replies if reply.hit_max_new_tokens)
    assert any(reply.hit_max_new_tokens for reply in replies)
    assert tiny_formatter.tokenizer.padding_side == before


def test_a_reply_that_ends_by_itself_was_not_stopped(tiny_model, tiny_formatter, tiny_requests):
    eos = tiny_formatter.tokenizer.eos_token_id
    settings = {"max_new_tokens": 6, "do_sample": False, "forced_eos_token_id": eos}
    assert not any(
        reply.hit_max_new_tokens for reply in answered(tiny_model, tiny_formatter, tiny_requests, settings, 4)
    )


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
        return models.context_length(
            EvaluateArguments(**tiny.evaluate(tmp_path, backend=backend, from_pretrained=keywords))
        )

    assert context("transformers") == context("unsloth") == 2048  # the tiny base's own
    assert context("unsloth", max_seq_length=512) == 512
    assert context("unsloth", max_seq_length=4096) == 2048


def test_tokens_after_the_eos_do_not_count():
    assert truncate_at_eos([5, 6, 2, 0, 0], eos=2) == [5, 6, 2]
    assert truncate_at_eos([5, 6], eos=2) == [5, 6]


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
