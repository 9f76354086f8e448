"""Log-probabilities of given completions after their prompts."""

from collections.abc import Sequence

import torch
from peft import PeftModel

from response_generator.modeling.padding import pad_rows

# Token ids of a prompt and of its completion, whose EOS is included.
PromptAndCompletion = tuple[list[int], list[int]]

# 1 GiB in float32. Every position of a batch has one logit for each token of the vocabulary.
MAX_LOGITS_PER_FORWARD = 2**28


def completion_logps(model: PeftModel, texts: Sequence[PromptAndCompletion], pad: int) -> list[float]:
    """Computes the log-probability of each completion after its prompt, in batches of at most MAX_LOGITS_PER_FORWARD
    logits, or of a single text.

    Args:
        texts: token ids of prompts and completions.
        pad: the id of the padding token.

    Returns:
        For each completion, the sum over its tokens in nats.
    """
    longest = max(len(prompt) + len(completion) for prompt, completion in texts)
    batch_size = max(1, MAX_LOGITS_PER_FORWARD // (longest * model.config.vocab_size))
    starts = range(0, len(texts), batch_size)
    return [logp for start in starts for logp in batch_logps(model, texts[start : start + batch_size], pad)]


def batch_logps(model: PeftModel, texts: Sequence[PromptAndCompletion], pad: int) -> list[float]:
    """Computes `completion_logps` in a single forward pass.

    Padding is on the right, where the causal mask hides it from all other tokens even if a model ignores its attention
    mask.
    """
    rows = [[*prompt, *completion] for prompt, completion in texts]
    tokens, mask = pad_rows(rows, pad, "right", model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        sums = []
        for row, (prompt, completion) in enumerate(texts):
            start, end = len(prompt), len(prompt) + len(completion)
            # The logits at a position predict the next token. float32, because a bfloat16 sum can be off by whole nats.
            next_token_logps = logits[row, start - 1 : end - 1].float().log_softmax(-1)
            token_logps = next_token_logps.gather(-1, tokens[row, start:end, None])
            sums.append(token_logps.sum().item())
    return sums
