"""evaluate.py with an automatic batch size, and with settings that only `generate` knows."""

from conftest import read_json
from script_runs import run_here

import evaluate


def test_an_automatic_batch_size_is_measured_once_and_kept(evaluation, tmp_path, capsys):
    values = evaluation | {"output_dir": str(tmp_path / "run"), "batch_size": "auto"}
    assert run_here(evaluate.main, values, tmp_path) == 0
    environment = read_json(tmp_path / "run" / "environment.json")
    assert environment["generation_method"] == "continuous batching"
    assert 'batch_size "auto": up to ' in capsys.readouterr().err
    rows = (tmp_path / "run" / "predictions.jsonl").read_bytes()
    # The second model's replies are lost; the next start keeps the limit, and so the batches.
    lines = rows.splitlines(keepends=True)
    (tmp_path / "run" / "predictions.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    (tmp_path / "run" / "metrics.json").unlink()
    assert run_here(evaluate.main, values, tmp_path) == 0
    assert 'batch_size "auto"' not in capsys.readouterr().err
    assert (tmp_path / "run" / "predictions.jsonl").read_bytes() == rows
    assert read_json(tmp_path / "run" / "environment.json")["max_batch_tokens"] == environment["max_batch_tokens"]


def test_settings_that_only_generate_knows_are_used_and_named(evaluation, tmp_path, capsys):
    generation = evaluation["generation"] | {"no_repeat_ngram_size": 3}
    values = evaluation | {"output_dir": str(tmp_path / "run"), "generation": generation}
    assert run_here(evaluate.main, values, tmp_path) == 0
    assert "only it knows generation.no_repeat_ngram_size" in capsys.readouterr().err
    assert read_json(tmp_path / "run" / "environment.json")["generation_method"] == "generate"
