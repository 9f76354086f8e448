"""From logits to the probabilities of the next token, as transformers' processors compute them, and a draw from these.

Top-k comes first, so that top-p and the draw look at k candidates instead of sorting the vocabulary.
"""

import numpy as np
import torch
from transformers import GenerationConfig


def adjust_scores(
    logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, new_tokens: torch.Tensor, config: GenerationConfig
) -> torch.Tensor:
    """Applies repetition penalty, minimum length and temperature.

    Args:
        logits: of the next token, (rows, vocabulary).
        ids: tokens of prompt and reply so far, (rows, columns). mask: 0 for padding, of which the last column has none.
        new_tokens: number of tokens of each reply so far, (rows,).

    Returns:
        Scores in float32, (rows, vocabulary).
    """
    scores = logits.clone().float()
    penalty = config.repetition_penalty
    if penalty not in (None, 1.0):
        seen = torch.where(mask.bool(), ids, ids[:, -1:])  # the token of the padding is not seen
        found = scores.gather(1, seen)
        scores.scatter_(1, seen, torch.where(found < 0, found * penalty, found / penalty))
    if config.min_new_tokens:
        scores[new_tokens < config.min_new_tokens, config.eos_token_id] = -torch.inf
    if config.do_sample and config.temperature not in (None, 1.0):
        scores = scores / config.temperature
    return scores


def find_candidates(scores: torch.Tensor, config: GenerationConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the tokens that top-k and top-p keep.

    Like transformers, top-k keeps all tokens whose score equals the k-th. Which of equally probable tokens top-p keeps
    is not defined there, because its sort is not stable; here it is the one with the higher id.

    Returns:
        Probabilities and token ids, the most probable first, (rows, candidates) each. The probability of a token that
        is not kept is 0.
    """
    vocabulary = scores.shape[-1]
    if config.top_k:
        top = scores.topk(min(config.top_k, vocabulary))
        kth = top.values[:, -1:]
        count = int((scores >= kth).sum(-1).max())
        if count > top.values.shape[1]:  # tokens that equal the k-th
            top = scores.topk(count)
        tokens = top.indices.sort(descending=True).values
    else:
        kth = torch.full_like(scores[:, :1], -torch.inf)
        tokens = torch.arange(vocabulary - 1, -1, -1, device=scores.device).expand_as(scores)
    found, order = scores.gather(-1, tokens).sort(descending=True, stable=True)
    tokens = tokens.gather(-1, order)
    found = found.masked_fill(found < kth, -torch.inf)
    if config.top_p is not None and config.top_p < 1.0:
        # transformers sums from the least probable token on. In float32 another order can keep another token.
        cumulative = found.flip(-1).softmax(-1).cumsum(-1).flip(-1)
        removed = cumulative <= 1 - config.top_p
        removed[:, 0] = False
        found = found.masked_fill(removed, -torch.inf)
    return found.softmax(-1), tokens


def choose_tokens(scores: torch.Tensor, uniforms: torch.Tensor, config: GenerationConfig) -> torch.Tensor:
    """Chooses the next token of each row: drawn by inverting the cumulative distribution, or the most probable one.

    Args:
        scores: (rows, vocabulary), see `adjust_scores`.
        uniforms: a number in [0, 1) for each row, (rows,).

    Returns:
        Token ids, (rows,).
    """
    if not config.do_sample:
        return scores.argmax(-1)
    probabilities, tokens = find_candidates(scores, config)
    cumulative = probabilities.double().cumsum(-1)
    place = (cumulative <= uniforms[:, None]).sum(-1)
    last = (probabilities > 0).sum(-1) - 1  # rounding can leave the sum slightly below 1
    return tokens.gather(-1, torch.minimum(place, last)[:, None])[:, 0]


def draw_uniforms(seed: int, row: int, sample: int, count: int) -> torch.Tensor:
    """Draws the random numbers of a reply, one for each of its tokens; they depend on nothing but these arguments.

    Returns:
        Numbers in [0, 1), float64, (count,).
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, row, sample])))
    return torch.from_numpy(generator.random(count))
