"""Weights that were overwritten at the same path between two starts of a run: never results of both."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Tiny, adapter_bytes, read_json, read_lines, write_rows
from script_runs import run_here

import evaluate
import fine_tune_dpo
from response_generator import sft
from response_generator.preferences import __main__ as preferences
from response_generator.runs import environment

ADAPTER = "adapter/adapter_model.safetensors"
BASE = "base/model.safetensors"
EMOTION = "emotion/model.safetensors"


@pytest.fixture
def own(tiny, tmp_path) -> Tiny:
    """Tiny models that a test may overwrite, in `work/models`; its runs are in `work/runs`."""
    return Tiny(Path(shutil.copytree(tiny.folder, tmp_path / "work" / "models")))


def change_one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-4] ^= 1  # the lowest bit of the last weight
    file.write_bytes(content)


def assert_refused(main, values: dict, folder: Path, capsys, key: str, file: Path, *options: str) -> None:
    """Changes one bit of `file` for a start, which must refuse it and write nothing into the run folder."""
    run, original = Path(values["output_dir"]), file.read_bytes()
    before = {each: each.read_bytes() for each in run.rglob("*") if each.is_file()}
    change_one_bit(file)
    capsys.readouterr()
    assert run_here(main, values, folder, *options) == 2
    assert (
        f"error: {key}: {file.parent}: {file.name} changed since this run began; put back what was there, or name "
        f"another output_dir" in capsys.readouterr().err.splitlines()
    )
    assert {each: each.read_bytes() for each in run.rglob("*") if each.is_file()} == before
    file.write_bytes(original)


def leave_unfinished(run: Path) -> None:
    """As if the process had been killed after its last result, before metrics.json."""
    (run / "metrics.json").unlink()


def test_replies_of_two_adapters_are_not_mixed(own, tmp_path, capsys, monkeypatch):
    values = own.evaluate(own.folder.parent / "runs" / "evaluate", bootstrap_resamples=1000)
    run = Path(values["output_dir"])
    assert run_here(evaluate.main, values, tmp_path) == 0
    whole = (run / "predictions.jsonl").read_bytes()
    change_one_bit(own.folder / ADAPTER)
    assert run_here(evaluate.main, values, tmp_path) == 0
    said = capsys.readouterr().out
    assert f"adapter: {own.adapter} has changed since; to use it as it is now, name another output_dir" in said
    change_one_bit(own.folder / ADAPTER)
    leave_unfinished(run)
    write_rows(run / "predictions.jsonl", read_lines(run / "predictions.jsonl")[:8])
    for key, file in (("adapter", ADAPTER), ("base_model", BASE), ("scoring.emotion_model", EMOTION)):
        assert_refused(evaluate.main, values, tmp_path, capsys, key, own.folder / file)
    # The folder is moved together with models and data, and a package is another one.
    earlier = read_json(run / "environment.json")
    moved = Path(shutil.move(own.folder.parent, tmp_path / "moved"))
    versions = {"trl": "0.1"} | {name: number for name, number in earlier["packages"].items() if name != "trl"}
    here = environment.describe_environment()
    monkeypatch.setattr(environment, "describe_environment", lambda: here | {"packages": versions})
    values = Tiny(moved / "models").evaluate(moved / "runs" / "evaluate", bootstrap_resamples=1000)
    assert run_here(evaluate.main, values, tmp_path) == 0
    said = capsys.readouterr().out
    assert f"this run was moved here from {run}" in said
    assert f"changed since the last start of this run: trl {earlier['packages']['trl']} -> 0.1" in said
    run = moved / "runs" / "evaluate"
    assert (run / "predictions.jsonl").read_bytes() == whole
    assert read_json(run / "args.json")["adapter"] == str(moved / "models" / "adapter")
    first, second = read_json(run / "environment.json")["starts"]
    assert first["packages"] == earlier["packages"] and second["packages"]["trl"] == "0.1"
    assert first["time"] <= second["time"]


def test_replies_are_not_scored_again_by_a_classifier_that_changed(own, tmp_path, capsys):
    values = own.evaluate(tmp_path / "run", bootstrap_resamples=1000)
    assert run_here(evaluate.main, values, tmp_path) == 0
    place = ["--from_predictions", str(tmp_path / "run")]
    file = own.folder / EMOTION
    assert_refused(evaluate.main, values, tmp_path, capsys, "scoring.emotion_model", file, *place)
    elsewhere = values | {"output_dir": str(tmp_path / "again")}
    assert run_here(evaluate.main, elsewhere, tmp_path, *place) == 0
    assert_refused(evaluate.main, elsewhere, tmp_path, capsys, "scoring.emotion_model", file, *place)
    change_one_bit(own.folder / ADAPTER)  # no reply is generated
    assert run_here(evaluate.main, elsewhere, tmp_path, *place) == 0
    assert set(read_json(tmp_path / "again" / "environment.json")["weights"]) == {
        "scoring.emotion_model",
        "scoring.gibberish_model",
    }


def test_candidates_of_two_adapters_are_not_mixed(own, tmp_path, capsys):
    values = own.preferences(tmp_path / "run")
    assert run_here(preferences.main, values, tmp_path) == 0
    pairs = (tmp_path / "run" / "preferences.jsonl").read_bytes()
    leave_unfinished(tmp_path / "run")
    (tmp_path / "run" / "preferences.jsonl").unlink()
    for key, file in (("adapter", ADAPTER), ("base_model", BASE), ("scoring.emotion_model", EMOTION)):
        assert_refused(preferences.main, values, tmp_path, capsys, key, own.folder / file)
    assert run_here(preferences.main, values, tmp_path) == 0
    assert (tmp_path / "run" / "preferences.jsonl").read_bytes() == pairs


def test_dpo_does_not_go_on_with_another_base_start_or_reference(own, tmp_path, capsys):
    values = own.dpo(tmp_path / "run", reference_adapter=str(own.folder / "other_adapter"), eval_dataset=None)
    values["dpo"] |= {"max_steps": 3}
    run = tmp_path / "run"
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    adapter = adapter_bytes(run)
    leave_unfinished(run)
    reference = "other_adapter/adapter_model.safetensors"
    for key, file in (("adapter", ADAPTER), ("base_model", BASE), ("reference_adapter", reference)):
        assert_refused(fine_tune_dpo.main, values, tmp_path, capsys, key, own.folder / file)
    facts = read_json(run / "environment.json")
    weights = facts.pop("weights")
    assert read_json(run / "checkpoint-2" / "run.json")["weights"] == weights
    (run / "environment.json").write_text(json.dumps(facts), encoding="utf-8")  # then the checkpoint still knows them
    assert_refused(fine_tune_dpo.main, values, tmp_path, capsys, "adapter", own.folder / ADAPTER)
    # A run of an earlier version, whose weights nothing has recorded.
    for checkpoint in run.glob("checkpoint-*"):
        identity = read_json(checkpoint / "run.json")
        del identity["weights"]
        (checkpoint / "run.json").write_text(json.dumps(identity), encoding="utf-8")
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    said = capsys.readouterr().out
    assert "nothing is known of the weights that this run began with; it goes on with those of now" in said
    assert adapter_bytes(run) == adapter
    assert read_json(run / "environment.json")["weights"] == weights


def test_sft_does_not_go_on_with_another_base(own, tmp_path, capsys):
    values = own.sft(tmp_path / "run", eval_dataset=None)
    values["sft"] |= {"max_steps": 2}
    assert run_here(sft.main, values, tmp_path) == 0
    leave_unfinished(tmp_path / "run")
    assert_refused(sft.main, values, tmp_path, capsys, "base_model", own.folder / BASE)
    assert run_here(sft.main, values, tmp_path) == 0


def test_a_training_whose_folder_was_moved_goes_on_to_the_same_bytes(own, tmp_path, capsys):
    values = own.dpo(tmp_path / "runs" / "a" / "dpo", eval_dataset=None)
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    adapter = adapter_bytes(tmp_path / "runs" / "a" / "dpo")
    leave_unfinished(tmp_path / "runs" / "a" / "dpo")
    shutil.rmtree(tmp_path / "runs" / "a" / "dpo" / "checkpoint-6")
    shutil.rmtree(tmp_path / "runs" / "a" / "dpo" / "adapter")
    shutil.move(tmp_path / "runs" / "a", tmp_path / "runs" / "b")
    run = tmp_path / "runs" / "b" / "dpo"
    # The adapter, too, has another name now, but is the same.
    shutil.move(own.adapter, own.folder / "sft_adapter")
    moved = values | {"output_dir": str(run), "adapter": str(own.folder / "sft_adapter")}
    capsys.readouterr()
    assert run_here(fine_tune_dpo.main, moved, tmp_path) == 0
    said = capsys.readouterr().out
    assert f"this run was moved here from {tmp_path / 'runs' / 'a' / 'dpo'}" in said
    assert f"adapter: {own.folder / 'sft_adapter'} holds the same weights as when this run began" in said
    assert f"resuming from {run / 'checkpoint-4'}" in said
    assert adapter_bytes(run) == adapter
