"""Log-probabilities of the completions of preference pairs: both ways of computing them agree."""

import pytest
from conftest import write_rows

from response_generator.config.schema import HeldOutPairArguments
from response_generator.errors import InputError
from response_generator.evaluation.pair_logprobs import (
    compute_pair_logps,
    compute_pair_logps_apart,
    read_reward_margins,
)
from response_generator.generation import prefix

PAIRS = [
    {"prompt_ids": [5, 9, 30, 7], "chosen_ids": [44, 7, 4], "rejected_ids": [20, 21, 22, 23, 4]},
    {"prompt_ids": [8, 8, 8, 8, 12, 90, 3], "chosen_ids": [17, 4], "rejected_ids": [18]},
    {"prompt_ids": [21], "chosen_ids": [60, 61, 62, 63, 4], "rejected_ids": [60, 61, 9, 63, 4]},
]


def test_computing_a_prompt_once_gives_the_same_numbers(tiny_model, monkeypatch):
    apart = compute_pair_logps_apart(tiny_model, 0, PAIRS)
    assert apart[0][0] != pytest.approx(apart[0][1], abs=0.1)
    for tokens in (1024, 1):  # all pairs at once, then one by one
        monkeypatch.setitem(prefix.PREFILL_TOKENS, "cpu", tokens)
        for found, expected in zip(compute_pair_logps(tiny_model, 0, PAIRS), apart, strict=True):
            assert found == pytest.approx(expected, abs=1e-3)


def test_a_file_without_every_pair_of_both_models_is_refused(tmp_path):
    rows = [
        {"model": model, "index": index, "chosen_logp": -1.0 - index, "rejected_logp": -2.0 - (model == "adapter")}
        for model in ("baseline", "adapter")
        for index in range(3)
    ]
    preferences = HeldOutPairArguments(dataset={"path": "pairs.jsonl"}, beta=0.1)
    write_rows(tmp_path / "pair_logps.jsonl", rows)
    assert read_reward_margins(tmp_path, preferences) == pytest.approx([0.1] * 3)
    for part in (rows[:4], rows[1:], rows[:-1]):
        write_rows(tmp_path / "pair_logps.jsonl", part)
        with pytest.raises(InputError, match="pair_logps.jsonl: .* rows are missing: it needs every pair under both"):
            read_reward_margins(tmp_path, preferences)
