"""A batch in which each row is a reply that is being written; new replies take the place of finished ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad
from transformers import GenerationConfig, PreTrainedModel

from response_generator.generation.generation_requests import Tokens
from response_generator.generation.kv_cache import build_cache, join_layers, read_layers
from response_generator.generation.prefix import Prefix
from response_generator.generation.token_sampling import adjust_scores, choose_tokens


@dataclass
class ReplyRows:
    """The state of each reply.

    numbers: names the reply, (rows,). ids: the tokens in the KV cache; mask: 1 for these, 0 for padding on the left,
    (rows, columns). prompt_tokens and new_tokens: their counts, (rows,). uniforms: a random number for each new token,
    (rows, max_new_tokens). tokens: the reply, of which the last token is not in the KV cache yet, (rows,
    max_new_tokens). live: True for unfinished replies, (rows,).
    """

    numbers: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    prompt_tokens: torch.Tensor
    new_tokens: torch.Tensor
    uniforms: torch.Tensor
    tokens: torch.Tensor
    live: torch.Tensor

    def append_tokens(self, logits: torch.Tensor, config: GenerationConfig) -> None:
        """Chooses the next token of each live row, given its logits, (rows, vocabulary)."""
        step = self.new_tokens.clamp(max=self.tokens.shape[1] - 1)[:, None]  # a finished row may have no next token
        scores = adjust_scores(logits, self.ids, self.mask, self.new_tokens, config)
        chosen = choose_tokens(scores, self.uniforms.gather(1, step)[:, 0], config)[:, None]
        self.tokens.scatter_(1, step, torch.where(self.live[:, None], chosen, self.tokens.gather(1, step)))
        self.new_tokens += self.live
        self.live = self.live & (chosen[:, 0] != config.eos_token_id) & (self.new_tokens < config.max_new_tokens)

    def select(self, index: torch.Tensor) -> "ReplyRows":
        return ReplyRows(**{name: tensor[index] for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class NewRows:
    """Replies that enter a batch. index: the prompt of each row, (rows,)."""

    rows: ReplyRows
    index: torch.Tensor
    prefix: Prefix

    @classmethod
    def start(
        cls,
        prefix: Prefix,
        index: torch.Tensor,
        numbers: torch.Tensor,
        uniforms: torch.Tensor,
        config: GenerationConfig,
    ) -> "NewRows":
        """Starts replies and chooses their first tokens.

        Args:
            index: the prompt of each reply, (rows,); a prompt can have several.
            numbers, uniforms: see `ReplyRows`.
        """
        index, numbers, uniforms = (each.to(prefix.ids.device) for each in (index, numbers, uniforms))
        mask = prefix.mask[index]
        rows = ReplyRows(
            numbers=numbers,
            ids=prefix.ids[index],
            mask=mask,
            prompt_tokens=mask.sum(-1),
            new_tokens=torch.zeros_like(index),
            uniforms=uniforms,
            tokens=torch.zeros_like(uniforms, dtype=torch.long),
            live=torch.ones_like(index, dtype=torch.bool),
        )
        rows.append_tokens(prefix.logits[index], config)
        return cls(rows, index, prefix)


class ReplyBatch:
    """Replies that are written together. All rows end at the same column of the KV cache."""

    def __init__(self, model: PreTrainedModel, config: GenerationConfig):
        self.model, self.config = model, config
        self.rows: ReplyRows | None = None
        self.past_key_values = None
        self.live_count = 0
        self.finished: dict[int, Tokens] = {}

    @property
    def row_count(self) -> int:
        return 0 if self.rows is None else len(self.rows.live)

    @property
    def columns(self) -> int:
        return 0 if self.rows is None else self.rows.mask.shape[1]

    def replace_finished(self, entering: Sequence[NewRows]) -> None:
        """Removes the finished rows and adds others."""
        parts, caches, indices = [], [], []
        if self.live_count:
            index = self.rows.live.nonzero()[:, 0]
            parts.append(self.rows.select(index))
            caches.append(read_layers(self.past_key_values))
            indices.append(index)
            self.past_key_values = None
        for new in entering:
            parts.append(new.rows)
            caches.append(new.prefix.layers)
            indices.append(new.index)
        columns = max(int(rows.mask.sum(-1).max()) for rows in parts)
        for rows in parts:
            left = (columns - rows.mask.shape[1], 0)  # a negative number removes columns
            rows.ids, rows.mask = pad(rows.ids, left), pad(rows.mask, left)
        self.rows = ReplyRows(**{name: torch.cat([getattr(rows, name) for rows in parts]) for name in vars(parts[0])})
        self.past_key_values = build_cache(self.model, join_layers(caches, indices, columns), columns)
        self.collect_finished(~self.rows.live)  # replies of one token

    def advance(self) -> None:
        """Appends one token to each live reply."""
        rows = self.rows
        last = rows.tokens.gather(1, rows.new_tokens[:, None] - 1)
        rows.ids, rows.mask = torch.cat([rows.ids, last], 1), pad(rows.mask, (0, 1), value=1)
        output = self.model(
            input_ids=last,
            attention_mask=rows.mask,
            position_ids=(rows.prompt_tokens + rows.new_tokens - 1)[:, None],
            past_key_values=self.past_key_values,
            use_cache=True,
            return_dict=True,
        )
        self.past_key_values = output.past_key_values
        was_live = rows.live
        rows.append_tokens(output.logits[:, -1], self.config)
        self.collect_finished(was_live & ~rows.live)

    def collect_finished(self, ended: torch.Tensor) -> None:
        """Adds the replies of the rows where `ended` is True, (rows,), to `finished`."""
        rows = self.rows
        for row in ended.nonzero()[:, 0].tolist():
            self.finished[int(rows.numbers[row])] = rows.tokens[row, : rows.new_tokens[row]].tolist()
        self.live_count = int(rows.live.sum())
