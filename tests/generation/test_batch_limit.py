"""The batch size "auto": measured once, noted, and within memory."""

import pytest
import torch

from response_generator.generation import batch_limit
from response_generator.generation.generation_requests import BatchLimit, SamplingParams, build_generation_config
from response_generator.runs.run_folder import RunFolder


@pytest.fixture
def params(tiny_formatter) -> SamplingParams:
    return SamplingParams(build_generation_config({"max_new_tokens": 20}, tiny_formatter.tokenizer), 0, samples=4)


def test_a_measured_limit_is_read_again(tiny_model, tiny_requests, params, tmp_path, capsys):
    run = RunFolder(tmp_path, {})
    run.write_json("environment.json", {})
    assert batch_limit.read_batch_limit(run, "auto") is None
    assert batch_limit.read_batch_limit(run, 8) == BatchLimit(8)
    measured = batch_limit.measure_batch_limit(run, tiny_model, tiny_requests, params)
    longest = max(request.length for request in tiny_requests) + 20
    assert measured.tokens % longest == 0
    assert batch_limit.read_batch_limit(run, "auto") == measured
    assert f'batch_size "auto": up to {measured.tokens} tokens' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ({4: 1.0, 8: 1.0, 16: 1.0, 32: 1.9, 64: 9.0}, 16),  # 32 rows are 5 % faster than 16
        ({4: 1.0, 8: 1.0, 16: None}, 8),  # out of memory
        ({4: 1.0, 8: 1.0, 16: 1.0, 32: 1.0, 64: 1.0}, 32),  # 24 replies: 64 rows are of no use
    ],
)
def test_rows_are_doubled_while_that_is_faster_and_fits(seconds, rows, tiny_model, tiny_requests, params, monkeypatch):
    def time_step(model, prefix, params, rows):
        if seconds[rows] is None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return seconds[rows]

    monkeypatch.setattr(batch_limit, "time_step", time_step)
    longest = max(request.length for request in tiny_requests) + 20
    assert batch_limit.measure_max_tokens(tiny_model, tiny_requests, params) == rows * longest


def test_a_processor_keeps_memory_free(tiny_model, tiny_requests, params, monkeypatch):
    monkeypatch.setattr(batch_limit, "MAX_CPU_MEMORY_SHARE", 0.0)
    assert batch_limit.measure_max_tokens(tiny_model, tiny_requests, params) == batch_limit.MIN_ROWS * (
        max(request.length for request in tiny_requests) + 20
    )
