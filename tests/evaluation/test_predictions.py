"""predictions.jsonl: which files are taken for one, and what an interruption leaves."""

import json

import pytest

from response_generator.errors import InputError
from response_generator.evaluation import predictions, predictions_file
from response_generator.generation.sampling import SamplingParams


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1] + [lines[-1][:50]], "line 96: is no JSON"),
        (lambda lines: lines[:-1], "adapter has not answered row 23, sample 1"),
        (lambda lines: lines + [lines[0]], "a reply of one model to one prompt and sample twice"),
        (lambda lines: [lines[0].replace(b'"new_tokens": ', b'"new_tokens": "few", "x": ')] + lines[1:], "line 1: new"),
        (lambda lines: [lines[0].replace(b'"history"', b'"past"')] + lines[1:], "line 1: has no history"),
        (lambda lines: [lines[0].replace(b'"history": [', b'"history": [], "x": [')] + lines[1:], "history is empty"),
        (
            lambda lines: [lines[0].replace(b'"reference_logp": ', b'"reference_logp": NaN, "x": ')],
            "1: reference_l",
        ),
        (lambda lines: [lines[0].replace(b'"reference": "', b'"reference": "Oh , ')] + lines[1:], "is another prompt"),
        (lambda lines: [], "holds no rows"),
    ],
)
def test_files_that_are_no_predictions_are_refused_with_the_line(evaluated, tmp_path, change, words):
    lines = (evaluated[0] / "predictions.jsonl").read_bytes().splitlines()
    file = tmp_path / "predictions.jsonl"
    file.write_bytes(b"\n".join(change(lines)))
    with pytest.raises(InputError, match=words):
        predictions_file.read(file, predictions_file.GENERATED_FIELDS)


def test_an_interrupted_run_says_where_it_stands(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(predictions, "generate_batch", stop)
    with pytest.raises(KeyboardInterrupt, match="predictions.jsonl; run the same command again to go on from there"):
        predictions.generate(tmp_path, "adapter", None, None, [[None]], SamplingParams(None, 1, 1))


def test_a_speed_that_was_cut_off_does_not_end_the_run(tmp_path, monkeypatch):
    """A full disk leaves half a line, and the next start would write behind it."""
    monkeypatch.setattr(predictions, "generate_batch", lambda *args: [])
    speed = {"model": "adapter", "replies": 4, "new_tokens": 40, "seconds": 2.0}
    (tmp_path / "generation.jsonl").write_text(json.dumps(speed) + '\n{"model": "ada', encoding="utf-8")
    predictions.outstanding(tmp_path, ["adapter"], [], 1)
    predictions.generate(tmp_path, "adapter", None, None, [[None]], SamplingParams(None, 1, 1))
    assert predictions.speeds(tmp_path)["adapter"]["replies_per_second"] == pytest.approx(2, rel=0.1)
