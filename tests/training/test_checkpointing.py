"""Checkpoints that are incomplete, damaged, of another run, or of a run that went wrong."""

import hashlib
import json
import re
import resource
import shutil
from pathlib import Path

import pytest
from conftest import read_json, read_lines
from safetensors.torch import load_file
from training_sessions import At, assert_same, log, session, stopped
from transformers import TrainerCallback

from response_generator.cli import preflight
from response_generator.errors import InputError, RunError
from response_generator.runs.run_folder import RunFolder
from response_generator.training.checkpoints import checkpoint_files, checkpointing


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


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A trainer at the end of its 6 steps, and its run folder with the checkpoints 2, 4 and 6."""
    run = tmp_path_factory.mktemp("finished") / "run"
    trainer, _ = session(tiny, run, save_steps=2)
    return trainer, run


def test_an_incomplete_checkpoint_is_passed_over(tiny, finished, tmp_path, capsys):
    whole, _ = finished
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


def test_run_json_lists_size_and_sha256_of_each_file(finished):
    checkpoint = finished[1] / "checkpoint-4"
    expected = {
        file.name: {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in checkpoint.iterdir()
        if file.name != "run.json"
    }
    assert read_json(checkpoint / "run.json") == {"files": expected}
    required = (
        "adapter_model.safetensors optimizer.pt scheduler.pt rng_state.pth trainer_state.json log_sums_0-of-1.json"
    )
    assert set(required.split()) < set(expected)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"), [(cut, "has .* bytes instead of"), (flip_a_bit, "has changed"), (Path.unlink, "lacks|.*")]
)
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_found(finished, tmp_path, damage, words):
    names = list(read_json(finished[1] / "checkpoint-6" / "run.json")["files"])
    for name in names:
        run = tmp_path / name
        shutil.copytree(finished[1] / "checkpoint-4", run / "checkpoint-4")
        shutil.copytree(finished[1] / "checkpoint-6", run / "checkpoint-6")
        assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-6"
        damage(run / "checkpoint-6" / name)
        assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-4"
        said = checkpointing.describe_unusable(run / "checkpoint-6")
        assert re.fullmatch(rf"checkpoint-6: ({words}|{re.escape(name)} {words}.*); it is not used", said), said
        assert name in said or "*" in said  # rng_state*.pth and log_sums_*.json, which have numbers of processes


def test_a_run_with_a_flipped_bit_goes_on_from_the_checkpoint_before(tiny, finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished[1], run)
    flip_a_bit(run / "checkpoint-6" / "optimizer.pt")
    capsys.readouterr()
    resumed, _ = session(tiny, run, save_steps=2)
    said = capsys.readouterr().out
    assert "checkpoint-6: optimizer.pt has changed since it was written (another sha256); it is not used" in said
    assert f"resuming from {run / 'checkpoint-4'}" in said
    assert_same(resumed, finished[0])
    assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-6"  # written again


def test_a_checkpoint_of_an_earlier_version_has_no_digests(finished, tmp_path):
    for number, name in enumerate(["trainer_state.json", "log_sums_0-of-1.json"]):
        run = tmp_path / str(number)
        shutil.copytree(finished[1], run)
        for checkpoint in run.glob("checkpoint-*"):
            (checkpoint / "run.json").write_text(json.dumps({"arguments": {}, "data": []}), encoding="utf-8")
        assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-6"
        (run / "checkpoint-6" / name).write_text('{"step": 6', encoding="utf-8")
        assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-4"
        assert f"checkpoint-6: {name} cannot be read" in checkpointing.describe_unusable(run / "checkpoint-6")
        for text in ('{"files": 1}', '{"files": {"optimizer.pt": 7}}', "{"):
            (run / "checkpoint-4" / "run.json").write_text(text, encoding="utf-8")
            assert "run.json" in checkpointing.describe_unusable(run / "checkpoint-4")


def test_only_checkpoints_of_this_program_are_read_and_removed(tiny, tmp_path):
    run = tmp_path / "run"
    for name in ("checkpoint-best", "checkpoint-99", "checkpoint-07", "checkpoint-4"):
        (run / name).mkdir(parents=True)
        (run / name / "notes.txt").write_text("mine", encoding="utf-8")
    (run / "checkpoint-3").write_text("mine", encoding="utf-8")
    assert checkpointing.find_last_checkpoint(run) is None
    assert checkpointing.find_unusable(run) == []
    stopped(tiny, run, 5, save_steps=2, save_total_limit=2)
    assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-5"
    session(tiny, run, save_steps=2, save_total_limit=1)
    notes = {file.parent.name for file in run.glob("*/notes.txt")}
    assert notes == {"checkpoint-best", "checkpoint-99", "checkpoint-07", "checkpoint-4"}
    assert (run / "checkpoint-3").is_file()
    assert [file.name for file in (run / "checkpoint-4").iterdir()] == ["notes.txt"]  # its other files were rotated
    assert not (run / "checkpoint-2").exists() and not (run / "checkpoint-5").exists()
    assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-6"
    shutil.copytree(run / "checkpoint-6", run / "checkpoint-40")  # a user's copy
    assert checkpointing.find_last_checkpoint(run) == run / "checkpoint-6"
    assert checkpointing.find_unusable(run) == []


def test_a_checkpoint_that_is_half_removed_is_not_read(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "run")
    last = tmp_path / "run" / "checkpoint-6"
    (last / "notes.txt").write_text("mine", encoding="utf-8")
    checkpoint_files.remove(last)
    assert [file.name for file in last.iterdir()] == ["notes.txt"]
    checkpoint_files.remove(tmp_path / "run" / "checkpoint-4")
    assert not (tmp_path / "run" / "checkpoint-4").exists()
    assert checkpointing.find_last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-2"


def test_a_log_that_has_lost_lines_is_completed_from_the_checkpoint(tiny, finished, tmp_path):
    run = tmp_path / "run"
    stopped(tiny, run, 5, save_steps=2)
    lines, rows = (run / "log.jsonl").read_bytes().splitlines(keepends=True), read_lines(run / "log.jsonl")
    for lost in (lines[:2] + [lines[2][:9]], [b"{}\n", b'[]\n{"step": [1]}\n', *lines[2:]], []):
        again = tmp_path / f"{len(lost)} lines"
        shutil.copytree(run, again)
        (again / "log.jsonl").write_bytes(b"".join(lost))
        session(tiny, again, save_steps=2)
        assert log(again) == log(finished[1])
        assert read_lines(again / "log.jsonl")[:5] == rows  # also their seconds
    # All steps were taken, but the log's tail was cut: nothing is trained, and the log is whole.
    (again / "log.jsonl").write_bytes(b"".join(lines[:2]))
    session(tiny, again, save_steps=2)
    assert log(again) == log(finished[1])


def test_a_full_disk_keeps_the_last_checkpoint(tiny, finished, tmp_path):
    """A limit on the size of files stands for the full disk: the write fails in its middle."""
    run = tmp_path / "run"
    whole, _ = finished
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = At(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard)))
    try:
        with pytest.raises(
            RunError, match="checkpoint-4/tokenizer.json could not be written .* GB are free .* from .*point-2"
        ):
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
    assert read_json(run / "checkpoint-2" / "run.json").items() >= owner.items()
    checkpointing.check_run_identity(RunFolder(run, {}), owner)
    for other, words in (
        ({"data": ["b"]}, "other data,"),
        ({"data": [], "arguments": {}}, "other arguments and data,"),
    ):
        with pytest.raises(
            InputError, match=f"checkpoint-2: belongs to a run with {words} so this run cannot be resumed"
        ):
            checkpointing.check_run_identity(RunFolder(run, {}), owner | other)
    for content in (
        "{}",
        '{"arguments": [], "data": ["a"]}',
        '{"arguments": {"seed": 1}, "data": ["a"], "weights": 1}',
    ):
        (run / "checkpoint-2" / "run.json").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="run.json: has changed since it was written; restore it, or remove this"):
            checkpointing.check_run_identity(RunFolder(run, {}), owner)
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
