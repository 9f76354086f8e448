"""Log-probabilities of replies that share contexts, against one forward pass for each reply and context."""

import pytest
import torch
from tiny_families import build_model
from transformers import AutoModelForCausalLM

from response_generator.generation import prefix
from response_generator.generation.kv_cache import has_full_attention
from response_generator.scoring.context_logps import compute_logps

CONTEXTS = [[*range(50, 70)], [12], [13, 14, 15], [16, 17, 18, 19]]
REPLIES = [[[20, 21], [22], [23, 24, 25, 26]], [[20, 21]], [], [[27], [28, 29, 30], [20, 21]]]


def compute_directly(model, context: list[int], reply: list[int]) -> float:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([context + reply])).logits[0].double()
    places = range(len(context) - 1, len(context) + len(reply) - 1)
    return sum(logits[place].log_softmax(-1)[token].item() for place, token in zip(places, reply, strict=True))


def check_logps(model) -> None:
    reported = []
    found = compute_logps(model, CONTEXTS, REPLIES, reported.append)
    for context, replies, logps in zip(CONTEXTS, REPLIES, found, strict=True):
        assert logps == pytest.approx([compute_directly(model, context, reply) for reply in replies], abs=1e-4)
    assert sum(reported) == sum(map(len, REPLIES))


@pytest.fixture(scope="module")
def model(tiny):
    return AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32).eval()


@pytest.mark.parametrize("tokens", [1, 60, 1024])
def test_they_are_those_of_a_forward_pass_for_each_pair(tiny, model, monkeypatch, tokens):
    monkeypatch.setitem(prefix.PREFILL_TOKENS, "cpu", tokens)  # of one row, some rows and all rows at once
    check_logps(model)


def test_each_context_is_computed_once(tiny, model, monkeypatch):
    widths = []
    forward = type(model).forward

    def count(self, *args, input_ids, **kwargs):
        widths.append(tuple(input_ids.shape))
        return forward(self, *args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", count)
    compute_logps(model, CONTEXTS, REPLIES, lambda replies: None)
    assert widths == [(4, 20), (7, 4)]  # the contexts, then all replies


@pytest.mark.slow
def test_models_that_do_not_attend_to_everything_compute_each_pair_apart():
    torch.manual_seed(0)
    model = build_model("gemma3", vocab_size=100).float().eval()
    assert not has_full_attention(model)
    check_logps(model)


def test_when_memory_runs_out_fewer_are_computed_at_once(tiny, model, monkeypatch, capsys):
    forward = type(model).forward

    def short_of_memory(self, *args, input_ids, **kwargs):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, *args, input_ids=input_ids, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "forward", short_of_memory)
        found = compute_logps(model, CONTEXTS, REPLIES, lambda replies: None)
    whole = compute_logps(model, CONTEXTS, REPLIES, lambda replies: None)
    for logps, expected in zip(found, whole, strict=True):
        assert logps == pytest.approx(expected, abs=1e-4)
    assert "out of memory with 4 rows at once; continuing with 2" in capsys.readouterr().err
