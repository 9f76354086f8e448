"""A run that was stopped and went on is, to the last bit, a run that was not: in this process, on tiny models."""

import json
import logging
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from training_sessions import At, assert_same, log, session, stopped
from transformers import TrainerCallback, TrainerState

from response_generator.errors import RunError
from response_generator.training import run_training
from response_generator.training.checkpoints import checkpoint_files
from response_generator.training.checkpoints.resume_callbacks import CheckpointCallback, EpochSeededLengthSampler
from response_generator.training.monitoring import step_files
from response_generator.training.monitoring.step_files import read_rows

CASES = {
    # 12 pairs: 3 steps an epoch of batches of 4, 6 steps in all
    "in the first epoch": (2, {}),
    "at an epoch's end": (3, {}),
    "between two log lines": (2, {"logging_steps": 3}),
    "at an epoch's end, where it is evaluated and logged": (
        3,
        {"save_strategy": "epoch", "eval_strategy": "epoch", "logging_strategy": "epoch"},
    ),
    "grouped by length, second epoch": (4, {"train_sampling_strategy": "group_by_length", "logging_steps": 2}),
    "accumulation over the epoch's end": (
        2,
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "logging_steps": 3},
    ),
    "precomputed reference, saved each epoch": (
        4,
        {"precompute_ref_log_probs": True, "save_strategy": "epoch", "logging_steps": 5},
    ),
    "shared prompts, reference at every step": (2, {"shared_prefix": True}),
    "shared prompts, precomputed reference": (4, {"shared_prefix": True, "precompute_ref_log_probs": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_an_uninterrupted_one(case, tiny, tmp_path, monkeypatch, capsys):
    check_resumption(case, tiny, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("case", ["in the first epoch", "shared prompts, precomputed reference"])
def test_it_is_in_either_precision(case, precision, tiny, tmp_path, monkeypatch, capsys):
    trainer = check_resumption(case, tiny, tmp_path, monkeypatch, capsys)
    assert trainer.args.bf16 is (precision == "bfloat16")
    assert str(trainer.model.dtype) == f"torch.{precision}"


def check_resumption(case, tiny, tmp_path, monkeypatch, capsys):
    """Returns the trainer of the resumed run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    step, dpo = CASES[case]
    whole, expected = session(tiny, tmp_path / "whole", **dpo)
    said = stopped(tiny, tmp_path / "run", step, **dpo)
    assert said == f"{tmp_path / 'run' / f'checkpoint-{step}'} is saved; run the same command again to continue from it"
    told = capsys.readouterr().err.splitlines()
    assert told.count("SIGTERM: finishing this step and saving a checkpoint; please wait") == 1
    torch.rand(7)  # a new process does not have the generator's state either
    resumed, metrics = session(tiny, tmp_path / "run", **dpo)
    assert_same(resumed, whole)
    assert log(tmp_path / "run") == log(tmp_path / "whole")
    same = ("train_loss", "steps", "epoch", "eval_loss", "last_quarter/rewards/margins", "last_quarter/logps/chosen")
    assert {key: metrics[key] for key in same} == {key: expected[key] for key in same}
    return resumed


def test_the_order_of_lengths_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSeededLengthSampler(list(range(40)), batch_size=4, seed=seed)
        sampler.set_epoch(epoch)
        torch.rand(1)
        return list(sampler)

    assert order(1, 0) == order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1) == order(1, 1)
    assert sorted(order(1, 1)) == list(range(40))


def test_best_adapter_is_kept_and_training_stops_early(tiny, tmp_path):
    """The learning rate is far too high, so the first evaluation stays the best."""
    dpo = {
        "num_train_epochs": 4,
        "learning_rate": 3.0,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "early_stopping_patience": 2,
    }
    trainer, metrics = session(tiny, tmp_path / "whole", save_total_limit=2, **dpo)
    losses = [entry["eval_loss"] for entry in log(tmp_path / "whole") if "eval_loss" in entry]
    best = 1 + losses.index(min(losses))
    assert metrics["steps"] == best + 2 == len(losses) < 12
    assert metrics["eval_loss"] == pytest.approx(min(losses))
    kept = {folder.name for folder in (tmp_path / "whole").glob("checkpoint-*")}
    assert kept == {f"checkpoint-{best}", f"checkpoint-{best + 2}"}
    # Killed after the last step, before the adapter was written: nothing is trained again. The folder was moved since.
    (tmp_path / "whole").rename(tmp_path / "whole_moved")
    again, figures = session(tiny, tmp_path / "whole_moved", save_total_limit=2, **dpo)
    assert_same(again, trainer)
    assert (figures["steps"], figures["best_step"], figures["train_seconds"]) == (best + 2, best, 0.0)
    # A damaged best adapter would become that of the run.
    file = tmp_path / "whole_moved" / f"checkpoint-{best}" / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match=f"checkpoint-{best}: adapter_model.* has changed .* is the best checkpoint"):
        session(tiny, tmp_path / "whole_moved", save_total_limit=2, **dpo)
    assert {folder.name for folder in (tmp_path / "whole_moved").glob("checkpoint-*")} == kept
    # Stopped between the best and the end: patience counts on, and the best is found where the folder is now.
    stopped(tiny, tmp_path / "run", best + 1, **dpo)
    (tmp_path / "run").rename(tmp_path / "run_moved")
    resumed, figures = session(tiny, tmp_path / "run_moved", **dpo)
    assert (figures["steps"], figures["best_step"]) == (best + 2, best)
    assert_same(resumed, trainer)


def test_the_best_checkpoint_is_found_in_a_folder_that_was_moved(tmp_path, capsys):
    """Also where a later step, which was not saved, was better: transformers then keeps the earlier one."""
    best, last = tmp_path / "moved" / "checkpoint-2", tmp_path / "moved" / "checkpoint-4"
    for folder in (best, last):
        folder.mkdir(parents=True)
        for name in (*checkpoint_files.REQUIRED_FILES, checkpoint_files.RUN_IDENTITY_FILE):
            (folder / name.replace("*", "0")).write_text("{}")
    stored = TrainerState(global_step=4, best_global_step=3, best_model_checkpoint="/gone/run/checkpoint-2")
    stored.save_to_json(str(last / "trainer_state.json"))
    state = TrainerState(global_step=4, best_global_step=3, best_model_checkpoint=None)  # as transformers resumes
    callback = CheckpointCallback(None, {}, None)
    callback.on_train_begin(SimpleNamespace(output_dir=str(tmp_path / "moved")), state, None)
    assert state.best_model_checkpoint == str(best)
    said = "The best checkpoint /gone/run/checkpoint-2 recorded in the resumed state does not exist anymore. Ignoring"
    record = logging.LogRecord("transformers.trainer", logging.WARNING, "", 0, said, None, None)
    assert not logging.getLogger("transformers.trainer").filter(record)
    checkpoint_files.remove(best)
    callback.on_train_begin(SimpleNamespace(output_dir=str(tmp_path / "moved")), state, None)
    assert state.best_model_checkpoint is None
    run_training.check_best_checkpoint(last)
    assert "the best checkpoint so far is no longer there" in capsys.readouterr().out


def test_a_run_of_max_steps_ends_where_it_ended(tiny, tmp_path):
    whole, _ = session(tiny, tmp_path / "run", max_steps=2, save_steps=1)
    again, metrics = session(tiny, tmp_path / "run", max_steps=2, save_steps=1)
    assert metrics["steps"] == 2
    assert_same(again, whole)


def test_a_signal_after_the_last_step_stops_too_and_nothing_is_lost(tiny, tmp_path):
    class AtTheEnd(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            if state.global_step == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    whole, expected = session(tiny, tmp_path / "whole", save_steps=2, logging_steps=4)
    with pytest.raises(KeyboardInterrupt, match="checkpoint-6 is saved; run the same command again"):
        session(tiny, tmp_path / "run", AtTheEnd(), save_steps=2, logging_steps=4)
    resumed, metrics = session(tiny, tmp_path / "run", save_steps=2, logging_steps=4)
    assert_same(resumed, whole)
    assert log(tmp_path / "run") == log(tmp_path / "whole")
    timed = ("train_seconds", "pairs_per_second", "peak_memory_gb")
    assert metrics == {name: value for name, value in expected.items() if name not in timed} | {
        name: metrics[name] for name in timed if name in metrics
    }


def test_sighup_stops_unless_it_is_ignored(tiny, tmp_path):
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert "checkpoint-2 is saved" in stopped(tiny, tmp_path / "run", 2, signal.SIGHUP, max_steps=3)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        hang_up = At(3, lambda: os.kill(os.getpid(), signal.SIGHUP))
        _, metrics = session(tiny, tmp_path / "run", hang_up, max_steps=3)
        assert metrics["steps"] == 3
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_seconds_do_not_follow_the_clock(tiny, tmp_path, monkeypatch):
    """The clock is set back by a day while the run trains."""
    clock = time.time
    back = At(1, lambda: monkeypatch.setattr(time, "time", lambda: clock() - 86_400))
    _, metrics = session(tiny, tmp_path / "run", back, max_steps=2)
    assert 0 < metrics["train_seconds"] < 3600 and metrics["pairs_per_second"] > 0


def test_a_second_signal_ends_at_once(tiny, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background
    with pytest.raises(KeyboardInterrupt, match="at once; run the same command again to continue from the start"):
        session(tiny, tmp_path / "run", At(1, twice))
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    assert signal.getsignal(signal.SIGINT) is before


def test_pairs_a_second_counts_pairs_that_were_trained(tiny, tmp_path):
    # Batches of 4, 8 accumulated: a step could take 32 pairs, and takes the 12 that there are.
    _, metrics = session(tiny, tmp_path / "run", gradient_accumulation_steps=8)
    assert metrics["steps"] == 2
    assert metrics["pairs_per_second"] * metrics["train_seconds"] == pytest.approx(2 * 12)
    stopped(tiny, tmp_path / "resumed", 2)
    _, metrics = session(tiny, tmp_path / "resumed")
    assert metrics["pairs_per_second"] * metrics["train_seconds"] == pytest.approx(2 * 12 - 2 * 4)


def test_a_line_of_a_log_that_was_cut_off_is_left_out(tmp_path, capsys):
    log_file = tmp_path / "log.jsonl"
    assert read_rows(log_file) == []
    log_file.write_bytes(b'{"step": 1, "seconds": 1}\n{"step": 2, "seconds": 2}\n{"st\x00\xff')
    assert [entry["step"] for entry in read_rows(log_file)] == [1, 2]
    assert f"{log_file}, line 3: is no row of this file (step, seconds); left out" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["{}", "[]", "7", '{"step": "2"}', '{"step": [1]}', "[" * 100_000, ""])
@pytest.mark.parametrize("name", ["log.jsonl", "warnings.jsonl", "samples.jsonl"])
def test_lines_without_a_step_are_named_and_left_out(tmp_path, name, line, capsys):
    row = dict.fromkeys(step_files.FIELDS[name], "\u2028") | {"step": 2}
    (tmp_path / name).write_text(f"{line}\n{json.dumps(row, ensure_ascii=False)}\n", encoding="utf-8")
    assert step_files.drop_later_rows(tmp_path / name, 3) == [row]
    assert f"{tmp_path / name}, line 1: is no row of this file" in capsys.readouterr().out
    assert read_rows(tmp_path / name) == [row] and capsys.readouterr().out == ""


def test_a_run_that_logs_nothing_comes_to_its_end(tiny, tmp_path):
    _, metrics = session(tiny, tmp_path / "run", logging_steps=50, max_steps=2)
    assert metrics["steps"] == 2
    assert "train_loss" not in metrics  # nothing was logged
    assert read_rows(tmp_path / "run" / "log.jsonl") == []
