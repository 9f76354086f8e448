"""Whole runs in processes of their own, as on a processor with bfloat16 instructions and as on one without."""

import math

import pytest
from conftest import losses, read_json, read_lines
from script_runs import run_script


def test_training_and_evaluation_in_either_precision(precision, tiny, tmp_path):
    run = tmp_path / "run"
    done = run_script("fine_tune_dpo.py", tiny.dpo(run), tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"computing in {precision}" in done.stdout
    assert read_json(run / "environment.json")["model"]["dtype"] == precision
    assert read_json(run / "metrics.json")["initial_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(run)[-1] < losses(run)[0]

    found = []
    for output in (tmp_path / "first", tmp_path / "second"):
        values = tiny.evaluate(output, adapter=str(run / "adapter"), baseline_adapter=tiny.adapter)
        done = run_script("evaluate.py", values, tmp_path)
        assert done.returncode == 0, done.stderr
        assert read_json(output / "environment.json")["model"]["dtype"] == precision
        found.append(read_lines(output / "predictions.jsonl"))
    assert found[0] == found[1]
