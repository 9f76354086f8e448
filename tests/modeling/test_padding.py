"""Padding on both sides, with a mask from the lengths."""

import pytest
import torch

from response_generator.modeling.padding import pad_rows

ROWS = [[5, 0], [0, 6, 0], []]  # 0 is the pad token, and a token of the rows


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("left", [[0, 5, 0], [0, 6, 0], [0, 0, 0]], [[0, 1, 1], [1, 1, 1], [0, 0, 0]]),
        ("right", [[5, 0, 0], [0, 6, 0], [0, 0, 0]], [[1, 1, 0], [1, 1, 1], [0, 0, 0]]),
    ],
)
def test_only_padding_is_masked(side, ids, mask):
    padded = pad_rows(ROWS, 0, side, torch.device("cpu"))
    assert [tensor.tolist() for tensor in padded] == [ids, mask]
    assert [tensor.dtype for tensor in padded] == [torch.long] * 2


def test_rows_without_tokens_have_no_columns():
    assert [tensor.shape for tensor in pad_rows([[], []], 0, "right", torch.device("cpu"))] == [(2, 0), (2, 0)]
