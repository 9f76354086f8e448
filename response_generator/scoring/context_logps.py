"""Log-probabilities of many replies after many contexts: each context is computed once, whatever is tried on it."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from response_generator.generation.generation_requests import Tokens
from response_generator.generation.kv_cache import has_full_attention
from response_generator.generation.oom import split_on_oom
from response_generator.generation.prefix import compute_prefix, split_by_tokens
from response_generator.modeling.logprobs import completion_logps

PAD = 0  # any token: padding is masked


def compute_logps(
    model: PreTrainedModel,
    contexts: Sequence[Tokens],
    replies: Sequence[Sequence[Tokens]],
    report: Callable[[int], None],
) -> list[list[float]]:
    """The log-probability (nats) of each context's replies, summed over a reply's tokens.

    Args:
        contexts: token ids, one or more each. replies: those of each context, of one token or more each.
        report: called with the number of replies that were computed since the last call.

    Raises:
        RunError: when a single reply does not fit into memory.
    """
    compute = compute_from_cache if has_full_attention(model) else compute_apart
    found: dict[int, list[float]] = {}
    places = sorted(range(len(contexts)), key=lambda place: len(contexts[place]))
    for group in split_by_tokens(places, model.device, lambda place: len(contexts[place])):

        def compute_group(part: Sequence[int]) -> list[list[float]]:
            return compute(model, [contexts[place] for place in part], [replies[place] for place in part], report)

        found |= zip(group, split_on_oom(compute_group, group), strict=True)
    return [found[place] for place in range(len(contexts))]


def compute_from_cache(
    model: PreTrainedModel,
    contexts: Sequence[Tokens],
    replies: Sequence[Sequence[Tokens]],
    report: Callable[[int], None],
) -> list[list[float]]:
    prefix, _ = compute_prefix(model, contexts, PAD)
    rows = [(row, number) for row, each in enumerate(replies) for number in range(len(each))]
    rows.sort(key=lambda place: len(replies[place[0]][place[1]]))  # less padding
    width = prefix.ids.shape[1]
    found = [[0.0] * len(each) for each in replies]

    def compute_rows(part: Sequence[tuple[int, int]]) -> list[float]:
        return prefix.select([row for row, _ in part]).completion_logps([replies[row][n] for row, n in part], PAD)

    for chunk in split_by_tokens(rows, model.device, lambda place: width + len(replies[place[0]][place[1]])):
        for (row, number), logp in zip(chunk, split_on_oom(compute_rows, chunk), strict=True):
            found[row][number] = logp
        report(len(chunk))
    return found


def compute_apart(
    model: PreTrainedModel,
    contexts: Sequence[Tokens],
    replies: Sequence[Sequence[Tokens]],
    report: Callable[[int], None],
) -> list[list[float]]:
    """For models whose KV cache cannot be shared: a context is computed for each reply."""
    texts = [(context, reply) for context, each in zip(contexts, replies, strict=True) for reply in each]
    logps = iter(completion_logps(model, texts, PAD) if texts else [])
    report(len(texts))
    return [[next(logps) for _ in each] for each in replies]
