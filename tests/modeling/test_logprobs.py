"""Log-probabilities of completions equal those of TRL, and the probabilities of all next tokens sum to one."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import selective_log_softmax

from response_generator.modeling import logprobs
from response_generator.modeling.logprobs import batch_logps, completion_logps

TEXTS = [([5, 9, 30], [44, 7, 4]), ([8, 8, 8, 8, 12, 90, 3], [17]), ([21], [60, 61, 62, 63, 4])]


@pytest.fixture(scope="module")
def model(tiny):
    return AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32).eval()


def test_a_padded_batch_equals_trl_on_single_texts(model):
    expected = []
    for prompt, completion in TEXTS:
        whole = torch.tensor([prompt + completion])
        with torch.no_grad():
            token_logps = selective_log_softmax(model(whole).logits[:, :-1], whole[:, 1:])[0]
        expected.append(token_logps[len(prompt) - 1 :].sum().item())
    assert completion_logps(model, TEXTS, pad=0) == pytest.approx(expected, abs=1e-4)


def test_the_batch_size_does_not_change_the_result(model, monkeypatch):
    expected = completion_logps(model, TEXTS, pad=0)
    sizes = []
    two_rows = 2 * 8 * model.config.vocab_size  # the longest text has 8 tokens
    monkeypatch.setattr(logprobs, "MAX_LOGITS_PER_FORWARD", two_rows)
    monkeypatch.setattr(logprobs, "batch_logps", lambda *args: sizes.append(len(args[1])) or batch_logps(*args))
    assert completion_logps(model, TEXTS, pad=0) == pytest.approx(expected, abs=1e-4)
    assert sizes == [2, 1]


def test_the_probabilities_of_all_next_tokens_sum_to_one(model):
    vocabulary = model.config.vocab_size
    logps = completion_logps(model, [([5, 9], [token]) for token in range(vocabulary)], pad=0)
    assert torch.tensor(logps).exp().sum().item() == pytest.approx(1, abs=1e-4)
