"""predictions.jsonl: which files are taken for one, and what an interruption leaves."""

import json

import pytest

from response_generator.batch_limit import BatchLimit
from response_generator.errors import InputError
from response_generator.evaluation import predictions
from response_generator.generation import Sampling


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1] + [lines[-1][:50]], "line 96: is no JSON"),
        (lambda lines: lines[:-1], "adapter has not answered row 23, sample 1"),
        (lambda lines: lines + [lines[0]], "a reply of one model to one prompt and sample twice"),
        (lambda lines: [lines[0].replace(b'"new_tokens": ', b'"new_tokens": "few", "x": ')] + lines[1:], "line 1: new"),
        (lambda lines: [lines[0].replace(b'"history"', b'"past"')] + lines[1:], "line 1: has no history"),
        (lambda lines: [], "holds no rows"),
    ],
)
def test_files_that_are_no_predictions_are_refused_with_the_line(evaluated, tmp_path, change, words):
    lines = (evaluated[0] / "predictions.jsonl").read_bytes().splitlines()
    file = tmp_path / "predictions.jsonl"
    file.write_bytes(b"\n".join(change(lines)))
    with pytest.raises(InputError, match=words):
        predictions.read(file, predictions.GENERATED)


def test_an_interrupted_run_says_where_it_stands(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(predictions, "answer", stop)
    how = Sampling(None, 1, 1, BatchLimit(1))
    with pytest.raises(KeyboardInterrupt, match="predictions.jsonl; run the same command again to go on from there"):
        predictions.generate(tmp_path, "adapter", None, None, [[None]], how)


def test_a_resumed_run_keeps_the_batch_that_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "answer", lambda *args: [])
    (tmp_path / "generation.jsonl").write_text(json.dumps({"batch_size": 2}) + "\n", encoding="utf-8")
    how = Sampling(None, 1, 1, BatchLimit(16))
    predictions.generate(tmp_path, "adapter", None, None, [[None]], how)
    assert how.limit.rows == 2
