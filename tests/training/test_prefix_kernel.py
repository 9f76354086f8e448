"""The settings of unsloth's kernel; what it computes is in tests/gpu/test_gpu_contract.py."""

import os

import pytest

from response_generator.training.layout.prefix_kernel import choose_blocks


@pytest.mark.parametrize(
    ("shared_memory_bytes", "given", "expected"),
    [
        (101_376, None, "64"),  # a 3090 or 4090
        (166_912, None, None),  # an A100
        (101_376, "32", "32"),  # the user's own choice stays
    ],
)
def test_blocks_fit_the_shared_memory(monkeypatch, shared_memory_bytes, given, expected):
    monkeypatch.delenv("PG_FLEX_BF16_BLOCK_M", raising=False)
    if given:
        monkeypatch.setenv("PG_FLEX_BF16_BLOCK_M", given)
    choose_blocks(shared_memory_bytes)
    assert os.environ.pop("PG_FLEX_BF16_BLOCK_M", None) == expected
