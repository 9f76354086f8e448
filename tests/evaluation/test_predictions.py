"""predictions.jsonl: which files are taken for one, and what an interruption leaves."""

import json
from pathlib import Path

import pytest
import torch
from conftest import read_lines
from tiny_models import EMOTION_LABELS

from response_generator.errors import InputError, RunError
from response_generator.evaluation import predictions, predictions_file
from response_generator.evaluation.saved_predictions import SavedPredictions
from response_generator.generation import method
from response_generator.generation.generation_requests import BatchLimit, SamplingParams, build_generation_config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1] + [lines[-1][:50]], "line 96: is not JSON"),
        (lambda lines: lines[:-1], "adapter has no reply to row 23, target happiness, sample 1"),
        (lambda lines: lines + [lines[0]], "two replies of one model to one prompt, target and sample"),
        (lambda lines: [lines[0].replace(b'"new_tokens": ', b'"new_tokens": "few", "x": ')] + lines[1:], "line 1: new"),
        (lambda lines: [lines[0].replace(b'"history"', b'"past"')] + lines[1:], "line 1: has no history"),
        (lambda lines: [lines[0].replace(b'"history": [', b'"history": [], "x": [')] + lines[1:], "history is empty"),
        (
            lambda lines: [lines[0].replace(b'"gold_logp": ', b'"gold_logp": NaN, "x": ')],
            "1: gold_l",
        ),
        (
            lambda lines: [lines[0].replace(b'"gold_response": "', b'"gold_response": "Oh , ')] + lines[1:],
            "has another prompt",
        ),
        (lambda lines: [lines[0].replace(b'"gold_tokens": ', b'"gold_tokens": 0, "x": ')], "gold_tokens is 0"),
        (lambda lines: [], "holds no rows"),
    ],
)
def test_files_that_are_no_predictions_are_refused_with_the_line(evaluated, tmp_path, change, words):
    lines = (evaluated[0] / "predictions.jsonl").read_bytes().splitlines()
    file = tmp_path / "predictions.jsonl"
    file.write_bytes(b"\n".join(change(lines)))
    with pytest.raises(InputError, match=words):
        predictions_file.read_predictions(file, predictions_file.GENERATED_FIELDS, EMOTION_LABELS)


@pytest.mark.parametrize("name", ["gold", "difference", "preference"])
def test_no_model_may_have_the_name_of_a_group_of_metrics(evaluated, tmp_path, name):
    """A model "gold" would be shown with the numbers of the gold replies."""
    lines = (evaluated[0] / "predictions.jsonl").read_text(encoding="utf-8")
    file = tmp_path / "predictions.jsonl"
    file.write_text(lines.replace('"model": "baseline"', f'"model": "{name}"'), encoding="utf-8")
    with pytest.raises(InputError, match=f"model is {name}, which is the name of something else in metrics.json"):
        SavedPredictions(file).rows(EMOTION_LABELS)


def test_an_interrupted_run_says_where_it_stands(tmp_path):
    def stop(batch, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="predictions.jsonl; run the same command again to continue"):
        predictions.generate_predictions(tmp_path / "predictions.jsonl", "adapter", stop, [[None]], 1, None)


def test_a_speed_that_was_cut_off_does_not_end_the_run(tmp_path):
    """A full disk leaves half a line, and the next start would write behind it."""
    speed = {"model": "adapter", "replies": 4, "new_tokens": 40, "seconds": 2.0}
    (tmp_path / "throughput.jsonl").write_text(json.dumps(speed) + '\n{"model": "ada', encoding="utf-8")
    predictions.find_remaining_batches(tmp_path / "predictions.jsonl", ["adapter"], [], 1, EMOTION_LABELS)
    predictions.generate_predictions(
        tmp_path / "predictions.jsonl", "adapter", lambda batch, report: [], [[None]], 1, None
    )
    assert predictions.read_throughput(tmp_path)["adapter"]["replies_per_second"] == pytest.approx(2, rel=0.1)


def predict(model, formatter, requests, name: str, folder: Path) -> list[dict]:
    config = build_generation_config({"max_new_tokens": 12, "do_sample": False}, formatter.tokenizer)

    def generate(batch, report):
        params = SamplingParams(config, seed=0, samples=1)
        return method.generate(name, model, batch, params, BatchLimit(6), report)

    predictions.generate_predictions(
        folder / "predictions.jsonl", "adapter", generate, [requests], 1, formatter.tokenizer
    )
    return read_lines(folder / "predictions.jsonl")


def test_when_memory_runs_out_smaller_batches_answer_all(
    tiny_model, tiny_formatter, tiny_requests, monkeypatch, tmp_path, capsys
):
    generate = type(tiny_model).generate

    def short_of_memory(self, *args, **kwargs):
        if len(kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return generate(self, *args, **kwargs)

    for name in ("whole", "halved"):
        (tmp_path / name).mkdir()
    whole = predict(tiny_model, tiny_formatter, tiny_requests[:6], method.GENERATE, tmp_path / "whole")
    monkeypatch.setattr(type(tiny_model), "generate", short_of_memory)
    halved = predict(tiny_model, tiny_formatter, tiny_requests[:6], method.GENERATE, tmp_path / "halved")
    assert [row["response"] for row in halved] == [row["response"] for row in whole]
    assert [row["gold_logp"] for row in halved] == pytest.approx([row["gold_logp"] for row in whole], abs=1e-3)
    assert "out of memory with 6 rows at once; continuing with 3" in capsys.readouterr().err


def test_both_methods_write_the_same_rows(tiny_model, tiny_formatter, tiny_requests, tmp_path):
    """Without sampling: also texts, lengths and log-probabilities of gold replies."""
    rows = {}
    for name in (method.GENERATE, method.CONTINUOUS_BATCHING):
        (tmp_path / name).mkdir()
        rows[name] = predict(tiny_model, tiny_formatter, tiny_requests, name, tmp_path / name)
    for row, other in zip(*rows.values(), strict=True):
        assert row | {"gold_logp": 0} == other | {"gold_logp": 0}
        assert row["gold_logp"] == pytest.approx(other["gold_logp"], abs=1e-3)
        assert row["hit_max_new_tokens"] == (row["new_tokens"] == 12)


@pytest.mark.parametrize("name", [method.GENERATE, method.CONTINUOUS_BATCHING])
def test_a_model_that_computes_nan_ends_the_run(name, tiny_model, tiny_formatter, tiny_requests, tmp_path):
    last = tiny_model.get_base_model().lm_head.weight
    kept = last.detach().clone()
    last.data[0, 0] = float("nan")
    try:
        with pytest.raises(RunError, match="log-probability of its gold reply is nan"):
            predict(tiny_model, tiny_formatter, tiny_requests[:6], name, tmp_path)
    finally:
        last.data.copy_(kept)
    assert not (tmp_path / "predictions.jsonl").exists()
