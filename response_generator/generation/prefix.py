"""Prompts that a model has computed once, for given completions and for any number of samples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from transformers import Cache, PreTrainedModel

from response_generator.generation.generation_requests import Tokens
from response_generator.generation.kv_cache import Layers, build_cache, read_layers
from response_generator.modeling.backend import has_unsloth_forward
from response_generator.modeling.padding import pad_rows

# Tokens, padding included, of the prompts that are computed in one forward pass. On a processor more is not faster.
PREFILL_TOKENS = {"cpu": 1024, "gpu": 8192}

Item = TypeVar("Item")


@dataclass
class Prefix:
    """Left-padded prompts after one forward pass.

    ids: token ids, (prompts, tokens). mask: 1 for tokens, 0 for padding, (prompts, tokens). logits: of the token after
    each prompt, (prompts, vocabulary). layers: keys and values.
    """

    model: PreTrainedModel
    ids: torch.Tensor
    mask: torch.Tensor
    logits: torch.Tensor
    layers: Layers

    def copy_cache(self) -> Cache | tuple:
        """Returns a KV cache that the next forward pass extends; the layers here stay as they are."""
        return build_cache(self.model, self.layers, self.ids.shape[1])

    def select(self, rows: Sequence[int]) -> "Prefix":
        """The given prompts, in this order; one may be taken repeatedly."""
        index = torch.tensor(rows, device=self.ids.device)
        layers = [(keys[index], values[index]) for keys, values in self.layers]
        return Prefix(self.model, self.ids[index], self.mask[index], self.logits[index], layers)

    @torch.inference_mode()
    def completion_logps(self, completions: Sequence[Tokens], pad_token_id: int) -> list[float]:
        """Computes the log-probability (nats) of one more completion after each prompt, summed over its tokens."""
        ids, mask = pad_rows(completions, pad_token_id, "right", self.ids.device)
        logits = self.model(
            input_ids=ids,
            attention_mask=torch.cat([self.mask, mask], 1),
            position_ids=self.mask.sum(-1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device),
            past_key_values=self.copy_cache(),
            use_cache=True,
            return_dict=True,
        ).logits
        return sum_logps(torch.cat([self.logits[:, None], logits[:, :-1]], 1), ids, completions)


@torch.inference_mode()
def compute_prefix(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    pad_token_id: int,
    completions: Sequence[Tokens] | None = None,
) -> tuple[Prefix, list[float]]:
    """Runs the model once over prompts, each with a completion behind it if `completions` are given.

    Returns:
        The prompts' prefix, and the log-probability (nats) of each completion, summed over its tokens.
    """
    completions = [[] for _ in prompts] if completions is None else completions
    prompt_ids, prompt_mask = pad_rows(prompts, pad_token_id, "left", model.device)
    completion_ids, completion_mask = pad_rows(completions, pad_token_id, "right", model.device)
    mask = torch.cat([prompt_mask, completion_mask], 1)
    width = prompt_ids.shape[1]
    kept = torch.arange(width - 1, mask.shape[1], device=model.device)
    output = model(
        input_ids=torch.cat([prompt_ids, completion_ids], 1),
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        use_cache=True,
        # Given a number, transformers multiplies a slice of the hidden states, for which torch copies the LM head's
        # weight for each row. unsloth takes only a number.
        logits_to_keep=len(kept) if has_unsloth_forward(model) else kept,
        return_dict=True,
    )
    layers = [(keys[:, :, :width], values[:, :, :width]) for keys, values in read_layers(output.past_key_values)]
    logps = sum_logps(output.logits, completion_ids, completions)
    return Prefix(model, prompt_ids, prompt_mask, output.logits[:, 0], layers), logps


def sum_logps(logits: torch.Tensor, ids: torch.Tensor, completions: Sequence[Tokens]) -> list[float]:
    """Sums log-probabilities (nats) of completions.

    Args:
        logits: at each position those of the completion's token there, (rows, tokens or more, vocabulary).
        ids: the padded completions, (rows, tokens).
    """
    # One row at a time, because a float32 copy of all logits is large; bfloat16 sums can be off by whole nats.
    return [
        logits[row, : len(tokens)].float().log_softmax(-1).gather(-1, ids[row, : len(tokens), None]).sum().item()
        for row, tokens in enumerate(completions)
    ]


def split_by_tokens(items: Sequence[Item], device: torch.device, length: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Splits items into groups of at most PREFILL_TOKENS tokens, padding included, or of one item."""
    max_tokens = PREFILL_TOKENS["cpu" if device.type == "cpu" else "gpu"]
    group: list[Item] = []
    longest = 0
    for item in items:
        longest = max(longest, length(item))
        if group and (len(group) + 1) * longest > max_tokens:
            yield group
            group, longest = [], length(item)
        group.append(item)
    if group:
        yield group
