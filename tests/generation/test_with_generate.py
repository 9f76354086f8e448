"""Sampling with `generate`: padding must not change replies, and a seed must fix them."""

import torch

from response_generator.generation.generation_requests import (
    GenerationRequest,
    SamplingParams,
    build_generation_config,
    make_batches,
)
from response_generator.generation.with_generate import draw_seed, generate_replies, truncate_at_eos


def answered(model, formatter, requests, settings, size, seed=0, samples=1):
    """Replies to `requests`, in their order."""
    config = build_generation_config(settings, formatter.tokenizer)
    sampling = SamplingParams(config, seed, samples)
    replies = [
        each for batch in make_batches(requests, size, length) for each in generate_replies(model, batch, sampling)
    ]
    return sorted(replies, key=lambda each: each.request.dialogue.index)


def length(request: GenerationRequest) -> int:
    return request.length


GREEDY = {"max_new_tokens": 12, "do_sample": False}
HOT = {"max_new_tokens": 12, "do_sample": True, "temperature": 2.0, "top_k": 0, "top_p": 1.0}


def tokens(replies) -> list[list[int]]:
    return [reply for each in replies for reply in each.samples]


def test_a_batch_of_padded_prompts_says_what_each_prompt_says_alone(tiny_model, tiny_formatter, tiny_requests):
    assert len({len(request.prompt_ids) for request in tiny_requests}) > 3  # else nothing is padded
    together = answered(tiny_model, tiny_formatter, tiny_requests, GREEDY, size=6)
    alone = answered(tiny_model, tiny_formatter, tiny_requests, GREEDY, size=1)
    assert tokens(together) == tokens(alone)
    assert [each.request for each in together] == tiny_requests


def test_a_seed_fixes_the_replies_and_another_changes_them(tiny_model, tiny_formatter, tiny_requests):
    first, again, other = (
        tokens(answered(tiny_model, tiny_formatter, tiny_requests, HOT, 4, seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_reply_does_not_depend_on_what_was_drawn_before_it(tiny_model, tiny_formatter, tiny_requests):
    """What resumption and several processes rest on."""
    everything = answered(tiny_model, tiny_formatter, tiny_requests, HOT, 2, seed=1, samples=2)
    last = make_batches(tiny_requests, 2, length)[-1]
    torch.rand(5)
    alone = answered(tiny_model, tiny_formatter, list(last), HOT, 2, seed=1, samples=2)
    assert tokens(alone) == tokens(each for each in everything if each.request in last)


def test_samples_of_a_prompt_differ_and_the_first_is_that_of_a_single_one(tiny_model, tiny_formatter, tiny_requests):
    single = answered(tiny_model, tiny_formatter, tiny_requests, HOT, 4)
    several = answered(tiny_model, tiny_formatter, tiny_requests, HOT, 4, samples=3)
    assert [each.samples[0] for each in several] == tokens(single)
    assert all(len({tuple(reply) for reply in each.samples}) == 3 for each in several)


def test_seeds_of_neighboring_runs_share_no_draw():
    seeds = {draw_seed(seed, sample, row) for seed in range(10) for sample in range(4) for row in range(50)}
    assert len(seeds) == 10 * 4 * 50


def test_min_and_max_new_tokens_hold(tiny_model, tiny_formatter, tiny_requests):
    settings = {"max_new_tokens": 7, "min_new_tokens": 3, "do_sample": True}
    replies = tokens(answered(tiny_model, tiny_formatter, tiny_requests, settings, 4))
    assert all(3 <= len(reply) <= 7 for reply in replies)
    eos = tiny_formatter.tokenizer.eos_token_id
    assert all(len(reply) == 7 for reply in replies if reply[-1] != eos)
    assert any(reply[-1] != eos for reply in replies)


def test_tokens_after_the_eos_do_not_count():
    assert truncate_at_eos([5, 6, 2, 0, 0], eos=2) == [5, 6, 2]
    assert truncate_at_eos([5, 6], eos=2) == [5, 6]
