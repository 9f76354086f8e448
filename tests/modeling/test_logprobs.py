"""Log-probabilities of completions against TRL's, token by token, and against the definition."""

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


def test_a_padded_batch_has_the_sums_of_trl_on_each_text_alone(model):
    expected = []
    for prompt, completion in TEXTS:
        whole = torch.tensor([prompt + completion])
        with torch.no_grad():
            of_tokens = selective_log_softmax(model(whole).logits[:, :-1], whole[:, 1:])[0]
        expected.append(of_tokens[len(prompt) - 1 :].sum().item())
    assert completion_logps(model, TEXTS, pad=0) == pytest.approx(expected, abs=1e-4)


def test_few_logits_at_once_change_nothing(model, monkeypatch):
    together = completion_logps(model, TEXTS, pad=0)
    sizes = []
    monkeypatch.setattr(
        logprobs, "MAX_LOGITS_PER_FORWARD", 2 * 8 * model.config.vocab_size
    )  # two rows of the longest text
    monkeypatch.setattr(logprobs, "batch_logps", lambda *args: sizes.append(len(args[1])) or batch_logps(*args))
    assert completion_logps(model, TEXTS, pad=0) == pytest.approx(together, abs=1e-4)
    assert sizes == [2, 1]


def test_all_next_tokens_together_are_certain(model):
    vocabulary = model.config.vocab_size
    each = completion_logps(model, [([5, 9], [token]) for token in range(vocabulary)], pad=0)
    assert torch.tensor(each).exp().sum().item() == pytest.approx(1, abs=1e-4)
