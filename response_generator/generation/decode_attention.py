"""Attention of one query token on a CPU, registered through transformers' own interface.

torch's CPU kernel of scaled_dot_product_attention is made for many query tokens: with one it takes more than twice the
time of a plain matrix product. Passes with several query tokens still use it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "matmul_decode"


def attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Shapes as transformers passes them: query (rows, heads, tokens, width), key and value (rows, groups, …).

    The heads of a group share keys and values; these are not repeated for each head.
    """
    if query.shape[2] > 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    rows, heads, _, width = query.shape
    groups = key.shape[1]
    scores = torch.matmul(query.reshape(rows, groups, heads // groups, width), key.transpose(2, 3))
    scores = scores.float() * (width**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        mask = attention_mask[:, :, :, : key.shape[2]]
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + mask
    output = torch.matmul(scores.softmax(-1).to(query.dtype), value)
    return output.reshape(rows, heads, 1, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def use_matmul_decode(model: PreTrainedModel) -> Iterator[None]:
    """Lets a model on a CPU that attends by sdpa use `attend`; others stay as they are."""
    earlier = model.config._attn_implementation
    if model.device.type != "cpu" or earlier != "sdpa":
        yield
        return
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(earlier)
