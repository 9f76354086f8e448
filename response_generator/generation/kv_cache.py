"""The KV cache of a batch, in the two forms that models take: transformers' cache classes, and unsloth's tuples."""

from collections.abc import Sequence

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from response_generator.modeling.backend import has_unsloth_forward

# Keys and values of each layer, (rows, heads, columns, head size).
Layers = list[tuple[torch.Tensor, torch.Tensor]]

SPARE_COLUMNS = 32


class BufferedLayer(DynamicLayer):
    """A cache layer with spare columns, so that a decoding step writes one column instead of copying all of them.

    Args:
        keys: a buffer that is written to, (rows, heads, columns or more, head size); values: likewise.
        columns: how many columns of the buffers are in use.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, columns: int):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.key_buffer, self.value_buffer = keys, values
        self.keys, self.values = keys[:, :, :columns], values[:, :, :columns]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        if end > self.key_buffer.shape[2]:
            self.key_buffer = add_columns(self.keys, end - start + SPARE_COLUMNS)
            self.value_buffer = add_columns(self.values, end - start + SPARE_COLUMNS)
        self.key_buffer[:, :, start:end] = key_states
        self.value_buffer[:, :, start:end] = value_states
        self.keys, self.values = self.key_buffer[:, :, :end], self.value_buffer[:, :, :end]
        return self.keys, self.values


def add_columns(states: torch.Tensor, columns: int) -> torch.Tensor:
    rows, heads, used, size = states.shape
    buffer = states.new_zeros(rows, heads, used + columns, size)
    buffer[:, :, :used] = states
    return buffer


def read_layers(past_key_values: Cache | tuple) -> Layers:
    """Returns keys and values from what a forward pass returned as `past_key_values`."""
    if isinstance(past_key_values, Cache):
        return [(layer.keys, layer.values) for layer in past_key_values.layers]
    return list(past_key_values)


def build_cache(model: PreTrainedModel, layers: Layers, columns: int) -> Cache | tuple:
    """Builds the `past_key_values` to pass to `model`. It may write to columns from `columns` on."""
    if has_unsloth_forward(model):
        drop_decode_buffers(model)
        return tuple((keys[:, :, :columns], values[:, :, :columns]) for keys, values in layers)
    cache = DynamicCache()
    cache.layers = [BufferedLayer(keys, values, columns) for keys, values in layers]
    return cache


def drop_decode_buffers(model: PreTrainedModel) -> None:
    """Makes unsloth copy the given keys and values at its next decoding step.

    unsloth decodes from buffers of its own, and fills them only if they do not exist.
    """
    for module in model.modules():
        if hasattr(module, "paged_attention"):
            del module.paged_attention, module.paged_attention_K, module.paged_attention_V


def has_full_attention(model: PreTrainedModel) -> bool:
    """Returns whether every layer attends to all earlier tokens and keeps nothing but keys and values."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def join_layers(caches: Sequence[Layers], indices: Sequence[torch.Tensor], columns: int) -> Layers:
    """Puts rows of several KV caches under each other, aligned at the last column. The caches are emptied on the way,
    so that not all keys and values exist twice.

    Args:
        indices: for each cache the rows to take, in order; a row may be taken repeatedly.
        columns: the number of columns of the result, behind which there are SPARE_COLUMNS.
    """
    joined = []
    for _ in range(len(caches[0])):
        keys, values = zip(*(cache.pop(0) for cache in caches), strict=True)
        joined.append((join_rows(keys, indices, columns), join_rows(values, indices, columns)))
    return joined


def join_rows(states: Sequence[torch.Tensor], indices: Sequence[torch.Tensor], columns: int) -> torch.Tensor:
    """`join_layers` for the keys, or for the values, of one layer."""
    _, heads, _, size = states[0].shape
    # Zeros, because a masked NaN would still reach the output of the attention.
    joined = states[0].new_zeros(sum(map(len, indices)), heads, columns + SPARE_COLUMNS, size)
    row = 0
    for each, index in zip(states, indices, strict=True):
        used = min(columns, each.shape[2])
        joined[row : row + len(index), :, columns - used : columns] = each[:, :, -used:][index]
        row += len(index)
    return joined
