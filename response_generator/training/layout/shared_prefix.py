"""DPO in which both replies of a pair share their prompt: `[prompt | chosen | rejected]`, several pairs in one row.

TRL's own layout computes a prompt twice. Here the collator gives TRL rows that hold a reply alone, with the last token
of its prompt before it, and beside them the packed rows. `share_prompts` lets the model's backbone run the packed rows
and give TRL the hidden states of the places that predict its rows' tokens. So TRL computes its own loss and metrics,
and none of its methods is replaced. (Wang and Hegde 2024, "Accelerating Direct Preference Optimization with Prefix
Sharing", arXiv 2410.20305.)
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from response_generator.constants import SIDES
from response_generator.modeling.attention import get_attn_implementation
from response_generator.modeling.backend import has_unsloth_forward
from response_generator.training.layout.prefix_kernel import build_kernel_arguments
from response_generator.training.reference import REF_LOGPS_COLUMNS

PACKED = "packed"  # key of the packed rows in a batch
# With a mask, attention is computed between all tokens of a row, so long rows cost more than they save.
MAX_ROW_TOKENS = 512


@dataclass
class PackedRow:
    """Pairs in one row. `pairs` and `parts`: the pair and the part (0 prompt, 1 chosen, 2 rejected) of each token."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)

    def add(self, number: int, pair: dict[str, list[int]]) -> dict[str, list[int]]:
        """Appends a pair.

        Returns:
            For each reply the places that predict its tokens: that of the prompt's last token, then its own but for the
            last one, which predicts nothing and is left out.
        """
        prompt = pair["prompt_ids"]
        self.extend(prompt, 0, number, 0)
        last = len(self.ids) - 1
        places = {}
        for part, side in enumerate(SIDES, 1):
            start = len(self.ids)
            self.extend(pair[f"{side}_ids"][:-1], len(prompt), number, part)
            places[side] = [last, *range(start, len(self.ids))]
        return places

    def extend(self, ids: Sequence[int], position: int, pair: int, part: int) -> None:
        self.ids += ids
        self.positions += range(position, position + len(ids))
        self.pairs += [pair] * len(ids)
        self.parts += [part] * len(ids)


def count_part_tokens(pair: dict[str, list[int]]) -> tuple[int, list[int]]:
    """The tokens of a pair's prompt and of each of its replies in a packed row."""
    return len(pair["prompt_ids"]), [len(pair[f"{side}_ids"]) - 1 for side in SIDES]


def count_pair_tokens(pair: dict[str, list[int]]) -> int:
    """The tokens of a pair in a packed row."""
    prompt, replies = count_part_tokens(pair)
    return prompt + sum(replies)


@dataclass(frozen=True)
class SharedPrefixCollator:
    """Makes the batches of TRL's trainer from rows of `tokenize_pairs`. Without `max_row_tokens` all pairs are in one
    row, as unsloth's kernel needs them."""

    pad_token_id: int
    max_row_tokens: int | None = MAX_ROW_TOKENS

    def __call__(self, pairs: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Returns:
            `input_ids` and `completion_mask`, (2 x pairs, tokens): all chosen, then all rejected replies, each after
            the last token of its prompt.
            `packed`: `ids`, `position_ids`, `pairs` and `parts` of the packed rows, (rows, tokens), with -1 as the pair
            of padding; `places`, (2 x pairs, tokens): where the hidden state of each token of `input_ids` is in the
            flattened packed rows; and `lengths`, on the CPU: the tokens of each pair's prompt and replies there.
            `attention_mask`: TRL only counts it; it has one number for each token that is computed.
        """
        packed_rows, places = pack(pairs, self.max_row_tokens)
        width = max(len(row.ids) for row in packed_rows)
        replies = [[pair["prompt_ids"][-1], *pair[f"{side}_ids"]] for side in SIDES for pair in pairs]
        flat = [
            [row * width + place for place in found[side]] + [0]  # TRL drops the last state of each row
            for side in SIDES
            for row, found in places
        ]
        completion_mask = [torch.tensor([0, *[1] * (len(reply) - 1)]) for reply in replies]
        batch = {
            "input_ids": pad_rows(replies, self.pad_token_id),
            "completion_mask": pad_sequence(completion_mask, batch_first=True),
            "attention_mask": torch.ones(1, sum(len(row.ids) for row in packed_rows), dtype=torch.long),
            PACKED: {
                "ids": pad_rows([row.ids for row in packed_rows], self.pad_token_id),
                "position_ids": pad_rows([row.positions for row in packed_rows], 0),
                "pairs": pad_rows([row.pairs for row in packed_rows], -1),
                "parts": pad_rows([row.parts for row in packed_rows], 0),
                "places": pad_rows(flat, 0),
                "lengths": [count_part_tokens(pair) for pair in pairs],
            },
        }
        known = [name for name in REF_LOGPS_COLUMNS if name in pairs[0]]
        return batch | {name: torch.tensor([pair[name] for pair in pairs]) for name in known}


def pack(
    pairs: list[dict[str, Any]], max_row_tokens: int | None
) -> tuple[list[PackedRow], list[tuple[int, dict[str, list[int]]]]]:
    """Fills as few rows as possible of at most `max_row_tokens` tokens, or of one pair, in the order of the pairs; the
    rows are about equally long, because all are padded to the longest.

    Returns:
        The rows, and for each pair its row and its places there.
    """
    counts = [count_pair_tokens(pair) for pair in pairs]
    limit = sum(counts) if max_row_tokens is None else find_row_limit(counts, max_row_tokens)
    numbers = assign_rows(counts, limit)
    rows = [PackedRow() for _ in range(numbers[-1] + 1)]
    places = [(row, rows[row].add(number, pair)) for number, (pair, row) in enumerate(zip(pairs, numbers, strict=True))]
    return rows, places


def find_row_limit(counts: list[int], max_row_tokens: int) -> int:
    """The least limit with which pairs of these token counts fill no more rows than with `max_row_tokens`."""
    last = assign_rows(counts, max_row_tokens)[-1]
    least = max(max(counts), -(-sum(counts) // (last + 1)))
    fitting = (limit for limit in range(least, max_row_tokens) if assign_rows(counts, limit)[-1] <= last)
    return next(fitting, max_row_tokens)


def assign_rows(counts: list[int], limit: int) -> list[int]:
    """The number of the row of each pair: the next row begins where a pair would exceed `limit` tokens."""
    numbers, row, filled = [], 0, 0
    for count in counts:
        if filled and filled + count > limit:
            row, filled = row + 1, 0
        filled += count
        numbers.append(row)
    return numbers


def pad_rows(rows: list[list[int]], padding: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=padding)


def share_prompts(model: PeftModel) -> None:
    """Lets the backbone of `model` run the packed rows of a batch; batches without them are computed as before."""
    base = model.get_base_model()
    backbone = base.get_decoder()
    forward = backbone.forward

    @functools.wraps(forward)
    def packed_forward(*args, packed: dict[str, Any] | None = None, **kwargs):
        if packed is None:
            return forward(*args, **kwargs)
        kwargs |= {"input_ids": packed["ids"], "position_ids": packed["position_ids"]}
        output = forward(**kwargs | separate_replies(base, packed))
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[packed["places"]]
        return output

    backbone.forward = packed_forward


def separate_replies(model: PreTrainedModel, packed: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the forward pass that keep a reply from attending to another one."""
    if has_unsloth_forward(model):
        return build_kernel_arguments(packed["lengths"])
    mask = build_mask(packed["pairs"], packed["parts"])
    if get_attn_implementation(model) == "eager":  # the others take a boolean mask
        lowest = torch.finfo(model.dtype).min
        mask = torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(~mask, lowest)
    return {"attention_mask": mask}


def build_mask(pairs: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Which tokens attend to which: earlier ones of the same pair that are of its prompt or of the same reply.

    Args:
        pairs, parts: see `SharedPrefixCollator`, (rows, tokens).

    Returns:
        True where the token of the third dimension attends to that of the fourth, (rows, 1, tokens, tokens).
    """
    same_pair = pairs[:, :, None] == pairs[:, None, :]
    visible_part = (parts[:, None, :] == 0) | (parts[:, :, None] == parts[:, None, :])
    return (same_pair & visible_part).tril()[:, None]
