"""The probabilities of the next token equal those of transformers' own processors; draws follow them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import GenerationConfig
from transformers.generation import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from response_generator.generation.generation_requests import SAMPLING_DEFAULTS
from response_generator.generation.token_sampling import adjust_scores, choose_tokens, draw_uniforms, find_candidates

VOCABULARY, EOS, PROMPT_TOKENS = 40, 7, 5


def build_config(**values) -> GenerationConfig:
    return GenerationConfig(**{**SAMPLING_DEFAULTS, "do_sample": True, "eos_token_id": EOS, **values})


def find_expected_probabilities(logits: torch.Tensor, ids: torch.Tensor, config: GenerationConfig) -> torch.Tensor:
    """By transformers' processors, in the order in which `generate` applies them, (rows, vocabulary)."""
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(config.repetition_penalty)])
    if config.min_new_tokens:
        processors.append(MinNewTokensLengthLogitsProcessor(PROMPT_TOKENS, config.min_new_tokens, EOS, device="cpu"))
    if config.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        processors.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1.0:
        processors.append(TopPLogitsWarper(config.top_p))
    return processors(ids, logits.clone()).softmax(-1)


def find_probabilities(logits: torch.Tensor, ids: torch.Tensor, config: GenerationConfig) -> torch.Tensor:
    """By this program, (rows, vocabulary)."""
    new_tokens = torch.full((len(logits),), ids.shape[1] - PROMPT_TOKENS)
    padded = torch.cat([torch.full((len(ids), 2), 3), ids], 1)  # 3 is also a token of some rows
    mask = torch.cat([torch.zeros(len(ids), 2), torch.ones(ids.shape)], 1)
    probabilities, tokens = find_candidates(adjust_scores(logits, padded, mask, new_tokens, config), config)
    return torch.zeros(logits.shape).scatter_add(1, tokens, probabilities)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    coarse=st.booleans(),  # many equal scores
    penalty=st.sampled_from([1.0, 1.1, 2.0, 0.7]),
    min_new_tokens=st.sampled_from([None, 2, 9]),
    new_tokens=st.integers(0, 6),
    temperature=st.sampled_from([1.0, 0.3, 2.5]),
    top_k=st.sampled_from([0, 1, 3, 10, VOCABULARY, 1000]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.05, 1e-6]),
)
def test_probabilities_equal_those_of_transformers(seed, coarse, new_tokens, penalty, min_new_tokens, **values):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, VOCABULARY, generator=generator) * 3
    logits = logits.round() if coarse else logits
    ids = torch.randint(VOCABULARY, (4, PROMPT_TOKENS + new_tokens), generator=generator)
    config = build_config(repetition_penalty=penalty, min_new_tokens=min_new_tokens, **values)
    before = logits.clone()
    found, expected = find_probabilities(logits, ids, config), find_expected_probabilities(logits, ids, config)
    if coarse:  # which of equally probable tokens top-p keeps is not defined
        found, expected = found.sort(-1).values, expected.sort(-1).values
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(logits, before)


def test_draws_follow_the_probabilities():
    logits = torch.tensor([[2.0, 1.5, 1.0, 0.0, -1.0, 3.0]])
    config = build_config(top_k=4, top_p=0.95, eos_token_id=0)
    ids = torch.zeros(1, PROMPT_TOKENS, dtype=torch.long)
    expected = find_expected_probabilities(logits, ids, config)[0]
    uniforms = torch.cat([draw_uniforms(3, row, 0, 10) for row in range(2000)])
    drawn = choose_tokens(logits.expand(len(uniforms), -1), uniforms, config)
    counts = torch.bincount(drawn, minlength=6)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    expected = expected[possible].double() / expected[possible].double().sum() * len(uniforms)
    assert chisquare(counts[possible], expected).pvalue > 1e-3
    assert chisquare(counts[possible], expected.roll(1)).pvalue < 1e-9


def test_a_uniform_chooses_the_token_of_its_interval():
    config = build_config(top_k=0)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(5, -1)
    uniforms = torch.tensor([0.0, 0.49, 0.51, 0.81, 1 - 2**-53], dtype=torch.float64)
    assert choose_tokens(logits, uniforms, config).tolist() == [0, 0, 1, 2, 2]


def test_without_sampling_the_most_probable_token_is_chosen():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert choose_tokens(logits, torch.tensor([0.99, 0.99]), build_config(do_sample=False)).tolist() == [1, 0]


def test_the_numbers_of_a_reply_belong_to_it_alone():
    numbers = {
        (seed, row, sample): tuple(draw_uniforms(seed, row, sample, 3).tolist())
        for seed in range(5)
        for row in range(20)
        for sample in range(4)
    }
    assert len(set(numbers.values())) == len(numbers)
    assert draw_uniforms(4, 19, 3, 9)[:3].tolist() == list(numbers[4, 19, 3])
    assert all(0 <= number < 1 for drawn in numbers.values() for number in drawn)


def test_the_defaults_are_those_of_transformers():
    defaults = GenerationConfig._get_default_generation_params()
    assert {name: defaults[name] for name in SAMPLING_DEFAULTS} == SAMPLING_DEFAULTS


@pytest.mark.parametrize("top_p", [0.9, 0.3])
def test_all_tokens_that_equal_the_kth_are_candidates(top_p):
    logits = torch.tensor([[1.0, 2.0, 1.0, 1.0, 0.0]])
    probabilities, tokens = find_candidates(logits, build_config(top_k=2, top_p=top_p))
    kept = tokens[0, probabilities[0] > 0].tolist()
    assert kept == ([1, 3, 2, 0] if top_p == 0.9 else [1])
