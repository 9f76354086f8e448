"""Which dtype is chosen for a processor, and that unsloth chooses the same."""

import pytest
import torch

from response_generator.modeling.precision import BF16_VARIABLE, get_compute_dtype, has_native_bf16

AVX2 = {"avx2": True, "avx512_bf16": False, "amx_bf16": False}


def ask_unsloth() -> bool:
    from unsloth_zoo.cpu import runtime

    return runtime.cpu_bf16_supported.__wrapped__()  # without what it remembers


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        (AVX2, False),
        (AVX2 | {"avx512_f": True}, False),
        (AVX2 | {"avx512_bf16": True}, True),  # without AMX, as an EPYC
        (AVX2 | {"avx512_bf16": True, "amx_bf16": True}, True),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_the_instructions_decide(monkeypatch, instructions, expected):
    monkeypatch.delenv(BF16_VARIABLE)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert has_native_bf16() is expected
    assert get_compute_dtype() == (torch.bfloat16 if expected else torch.float32)


@pytest.mark.slow  # it imports unsloth
@pytest.mark.parametrize("words", ["0", "1", "true", " No ", "OFF", "yes", "", "perhaps"])
def test_the_variable_answers_as_it_does_for_unsloth(monkeypatch, words):
    monkeypatch.setenv(BF16_VARIABLE, words)
    assert has_native_bf16() is ask_unsloth()


@pytest.mark.slow
def test_both_read_the_same_of_this_processor(monkeypatch):
    monkeypatch.delenv(BF16_VARIABLE)
    assert has_native_bf16() is ask_unsloth()
