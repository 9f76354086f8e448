"""What evaluate.py refuses before a model is loaded: all in words, with status 2, and nothing written."""

import re

import pytest
from script_runs import run_here
from tiny_models import write_tiny_adapter

import evaluate
from response_generator.modeling import shared_base

REFUSED = {
    "a prompt longer than the context": (
        {"from_pretrained": {"max_seq_length": 60}},
        "error: dataset, row 2: .* the model's context holds 60",
    ),
    "classifier with other labels": (
        {"scoring": {"emotion_model": "gibberish", "gibberish_model": "emotion"}},
        "its labels are clean, noise; needed: neutral, .* map them with scoring.emotion_labels",
    ),
    "labels that the classifier does not have": (
        {"scoring": {"emotion_model": "emotion", "gibberish_model": "gibberish", "emotion_labels": {"joy": "fear"}}},
        "got joy; allowed: the labels of .*emotion: neutral, anger",
    ),
    "too few labels": (
        {"scoring": {"emotion_model": "emotion", "gibberish_model": "gibberish", "emotion_labels": ["fear"]}},
        "got 1 names; needed: 7",
    ),
    "pairs that are missing": (
        {"heldout_pairs": {"dataset": {"path": "./none.jsonl"}, "beta": 0.1}},
        "heldout_pairs.dataset.path: /.*/none.jsonl: no such file",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_evaluated_is_refused_and_nothing_written(case, tiny, evaluation, tmp_path, capsys):
    changes, words = REFUSED[case]
    places = {name: str(tiny.folder / name) for name in ("emotion", "gibberish")}
    if "scoring" in changes:
        changes = {"scoring": {key: places.get(str(name), name) for key, name in changes["scoring"].items()}}
    assert run_here(evaluate.main, evaluation | {"output_dir": str(tmp_path / "run")} | changes, tmp_path) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_two_adapters_on_other_layers_are_refused_where_unsloth_would_crash(tiny, tmp_path, capsys, monkeypatch):
    write_tiny_adapter(tiny.folder / "base", tmp_path / "other", target_modules=["q_proj", "up_proj"])
    both = tiny.evaluate(tmp_path / "run", baseline_adapter=str(tmp_path / "other"))
    assert run_here(evaluate.main, both, tmp_path, "--dry_run") == 0  # as on a processor
    monkeypatch.setattr(shared_base, "has_unsloth_gpu_code", lambda: True)
    assert run_here(evaluate.main, both, tmp_path) == 2
    said = capsys.readouterr().err
    assert "are not on the same layers (for example model.layers.0.mlp.down_proj)" in said
    assert "evaluate.py --compare RUN_FOLDER RUN_FOLDER" in said
    assert not (tmp_path / "run").exists()
    bare = tiny.evaluate(tmp_path / "run", baseline_adapter="none")
    assert run_here(evaluate.main, bare, tmp_path, "--dry_run") == 0
