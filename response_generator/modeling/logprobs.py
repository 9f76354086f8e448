"""How likely the model finds a given completion after its prompt."""

from collections.abc import Sequence

import torch
from peft import PeftModel

# A prompt and a completion as token ids, the completion's EOS included.
PromptAndCompletion = tuple[list[int], list[int]]


MAX_LOGITS_PER_FORWARD = (
    2**28
)  # a gigabyte in float32: every token of a prompt has one for every word of the vocabulary


def completion_logps(model: PeftModel, texts: Sequence[PromptAndCompletion], pad: int) -> list[float]:
    """Sums of the log-probabilities (nats) of each completion's tokens, in as few forward passes as memory allows."""
    longest = max(len(prompt) + len(completion) for prompt, completion in texts)
    at_once = max(1, MAX_LOGITS_PER_FORWARD // (longest * model.config.vocab_size))
    starts = range(0, len(texts), at_once)
    return [logp for start in starts for logp in batch_logps(model, texts[start : start + at_once], pad)]


def batch_logps(model: PeftModel, texts: Sequence[PromptAndCompletion], pad: int) -> list[float]:
    """Padding is on the right: under a causal mask no real token sees it, whichever way the model treats its mask."""
    rows = [[*prompt, *completion] for prompt, completion in texts]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        sums = []
        for row, (prompt, completion) in enumerate(texts):
            start, end = len(prompt), len(prompt) + len(completion)
            # The logits at a position are of the token after it. float32: a sum of bf16 would round nats away.
            of_completion = logits[row, start - 1 : end - 1].float().log_softmax(-1)
            chosen = of_completion.gather(-1, tokens[row, start:end, None])
            sums.append(chosen.sum().item())
    return sums
