"""Checkpoints that are incomplete, of another run, or of a run that went wrong."""

import resource

import pytest
from conftest import read_json
from safetensors.torch import load_file
from training_sessions import At, assert_same, session, stopped
from transformers import TrainerCallback

from response_generator.cli import preflight
from response_generator.errors import InputError, RunError
from response_generator.runs.run_folder import RunFolder
from response_generator.training import checkpointing


class Poison(TrainerCallback):
    """Makes the third step go wrong."""

    def __init__(self, what: str):
        self.what = what

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        weight = next(weight for weight in model.parameters() if weight.requires_grad)
        if state.global_step == 2 and self.what == "loss":
            weight.data.fill_(float("nan"))
        elif state.global_step == 2:
            weight.register_hook(lambda gradient: gradient * float("inf"))


def test_a_cut_off_or_damaged_checkpoint_is_passed_over(tiny, tmp_path, capsys):
    whole, _ = session(tiny, tmp_path / "whole", save_steps=2)
    run = tmp_path / "run"
    stopped(tiny, run, 5, save_steps=2)
    (run / "checkpoint-5" / "optimizer.pt").unlink()
    (run / "checkpoint-6").mkdir()
    capsys.readouterr()
    resumed, _ = session(tiny, run, save_steps=2)
    said = capsys.readouterr().out
    assert "checkpoint-6: writing it was interrupted; it is not used" in said
    assert "checkpoint-5: lacks optimizer.pt; it is not used" in said
    assert f"resuming from {run / 'checkpoint-4'}" in said
    assert_same(resumed, whole)
    assert {folder.name for folder in run.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4", "checkpoint-6"}


def test_a_full_disk_keeps_the_last_checkpoint(tiny, tmp_path):
    """A limit on the size of files stands for the full disk: the write fails in its middle."""
    run = tmp_path / "run"
    whole, _ = session(tiny, tmp_path / "whole", save_steps=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = At(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard)))
    try:
        with pytest.raises(RunError, match="checkpoint-4 could not be written .* GB are free .* from .*point-2"):
            session(tiny, run, fill, save_steps=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in run.iterdir() if path.is_dir()} == {"checkpoint-2"}
    resumed, _ = session(tiny, run, save_steps=2)
    assert_same(resumed, whole)


def test_a_checkpoint_of_other_arguments_or_data_is_not_resumed_from(tiny, tmp_path):
    run, owner = tmp_path / "run", {"arguments": {"seed": 1}, "data": ["a"]}
    checkpointing.check_run_identity(RunFolder(run, {}), owner)  # there is none
    stopped(tiny, run, 2, owner=owner)
    assert read_json(run / "checkpoint-2" / "run.json") == owner
    checkpointing.check_run_identity(RunFolder(run, {}), owner)
    for other, words in (
        ({"data": ["b"]}, "other data,"),
        ({"data": [], "arguments": {}}, "other arguments and data,"),
    ):
        with pytest.raises(
            InputError, match=f"checkpoint-2: belongs to a run with {words} so this run cannot be resumed"
        ):
            checkpointing.check_run_identity(RunFolder(run, {}), owner | other)
    (run / "checkpoint-2" / "run.json").unlink()  # then it is not complete, and not resumed from either
    assert checkpointing.find_last_checkpoint(run) is None


def test_another_number_of_processes_is_refused(tiny, tmp_path, monkeypatch):
    stopped(tiny, tmp_path / "run", 2)
    assert preflight.find_process_count_errors(tmp_path / "run") == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    (message,) = preflight.find_process_count_errors(tmp_path / "run")
    assert message.endswith(
        "checkpoint-2: was not written by 2 process(es); start the same number of processes as before"
    )


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tiny, tmp_path, what):
    with pytest.raises(RunError, match=f"step 3: the {what} is .*learning_rate .* good checkpoint: .*point-2"):
        session(tiny, tmp_path / "run", Poison(what), save_steps=1)
    saved = load_file(tmp_path / "run" / "checkpoint-2" / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())
