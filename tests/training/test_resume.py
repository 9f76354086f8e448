"""A run that was stopped and went on is, to the last bit, a run that was not: in this process, on tiny models."""

import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from conftest import read_json
from safetensors.torch import load_file
from tiny_models import demo_rows
from transformers import TrainerCallback

from response_generator.cli import preflight
from response_generator.config.schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import parse_pair
from response_generator.data.tokenization import tokenize_pairs
from response_generator.errors import InputError, RunError
from response_generator.modeling import loading
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.tracking import Tracker
from response_generator.training import checkpointing, dpo_config, reference, train_dpo
from response_generator.training.callbacks import LogFile, read_log
from response_generator.training.resumption import EpochSeededLengthSampler

PAIRS = [parse_pair(number, row) for number, row in enumerate(demo_rows("preferences_train", 12))]
BASIS = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 100}


class At(TrainerCallback):
    """Does something once a step is taken."""

    def __init__(self, step: int, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def session(tiny, run: Path, *callbacks, owner: dict | None = None, **dpo):
    """One process's worth of fine_tune_dpo.py, up to the trained adapter: `(trainer, metrics)`."""
    values = tiny.dpo(run)
    values["dpo"] |= BASIS | dpo
    arguments = validate_arguments(DPOArguments, values, "args.json")
    config = dpo_config.build_dpo_config(arguments)
    start = loading.resolve_initial_adapter(arguments)
    tokenizer = load_tokenizer(arguments, start)
    tokens = tokenize_pairs(PAIRS, ChatFormatter.of(tokenizer, arguments.chat_template), config.max_length)
    watchers = [LogFile(run / "log.jsonl", Tracker()), *dpo_config.build_early_stopping(arguments.dpo), *callbacks]
    policy = loading.load_policy(arguments, start)
    trainer = train_dpo.build_trainer(
        policy, tokenizer, config, tokens, tokens, watchers, owner, arguments.dpo.get("save_total_limit")
    )
    if dpo.get("precompute_ref_log_probs"):
        reference.precompute_ref_logps(trainer)
    run.mkdir(exist_ok=True)
    return trainer, train_dpo.train(trainer)


def stopped(tiny, run: Path, step: int, how: signal.Signals = signal.SIGTERM, **dpo) -> str:
    with pytest.raises(KeyboardInterrupt) as interruption:
        session(tiny, run, At(step, lambda: os.kill(os.getpid(), how)), **dpo)
    return str(interruption.value)


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def log(run: Path) -> list[dict]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    drifting = ("seconds", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return [{key: value for key, value in entry.items() if key not in drifting} for entry in entries]


def assert_same(one, other) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


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
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_an_uninterrupted_one(case, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    step, dpo = CASES[case]
    whole, expected = session(tiny, tmp_path / "whole", **dpo)
    said = stopped(tiny, tmp_path / "run", step, **dpo)
    assert said == f"{tmp_path / 'run' / f'checkpoint-{step}'} is saved; run the same command again to continue from it"
    torch.rand(7)  # a new process does not have the generator's state either
    resumed, metrics = session(tiny, tmp_path / "run", **dpo)
    assert_same(resumed, whole)
    assert log(tmp_path / "run") == log(tmp_path / "whole")
    same = ("train_loss", "steps", "epoch", "eval_loss", "rewards/margins", "logps/chosen")
    assert {key: metrics[key] for key in same} == {key: expected[key] for key in same}


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
    # Killed after the last step, before the adapter was written: nothing is trained again.
    again, figures = session(tiny, tmp_path / "whole", save_total_limit=2, **dpo)
    assert_same(again, trainer)
    assert (figures["steps"], figures["best_step"], figures["train_seconds"]) == (best + 2, best, 0.0)
    # Stopped between the best and the end: patience counts on.
    stopped(tiny, tmp_path / "run", best + 1, **dpo)
    resumed, figures = session(tiny, tmp_path / "run", **dpo)
    assert figures["steps"] == best + 2
    assert_same(resumed, trainer)


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


def test_a_second_signal_ends_at_once(tiny, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background
    with pytest.raises(KeyboardInterrupt, match="at once; run the same command again to continue from the start"):
        session(tiny, tmp_path / "run", At(1, twice))
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    assert signal.getsignal(signal.SIGINT) is before


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
    checkpointing.check_run_identity(run, owner)  # there is none
    stopped(tiny, run, 2, owner=owner)
    assert read_json(run / "checkpoint-2" / "run.json") == owner
    checkpointing.check_run_identity(run, owner)
    for other, words in (
        ({"data": ["b"]}, "other data,"),
        ({"data": [], "arguments": {}}, "other arguments and data,"),
    ):
        with pytest.raises(
            InputError, match=f"checkpoint-2: belongs to a run with {words} so this run cannot be resumed"
        ):
            checkpointing.check_run_identity(run, owner | other)
    (run / "checkpoint-2" / "run.json").unlink()  # then it is not complete, and not resumed from either
    assert checkpointing.find_last_checkpoint(run) is None


def test_pairs_a_second_counts_pairs_that_were_trained(tiny, tmp_path):
    # Batches of 4, 8 accumulated: a step could take 32 pairs, and takes the 12 that there are.
    _, metrics = session(tiny, tmp_path / "run", gradient_accumulation_steps=8)
    assert metrics["steps"] == 2
    assert metrics["pairs_per_second"] * metrics["train_seconds"] == pytest.approx(2 * 12)
    stopped(tiny, tmp_path / "resumed", 2)
    _, metrics = session(tiny, tmp_path / "resumed")
    assert metrics["pairs_per_second"] * metrics["train_seconds"] == pytest.approx(2 * 12 - 2 * 4)


def test_another_number_of_processes_is_refused(tiny, tmp_path, monkeypatch):
    stopped(tiny, tmp_path / "run", 2)
    assert preflight.find_process_count_errors(tmp_path / "run") == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    (message,) = preflight.find_process_count_errors(tmp_path / "run")
    assert message.endswith(
        "checkpoint-2: was not written by 2 process(es); start the same number of processes as before"
    )


def test_a_log_is_read_up_to_a_line_that_was_cut_off(tmp_path):
    log_file = tmp_path / "log.jsonl"
    assert read_log(log_file) == []
    log_file.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st\x00\xff')
    assert [entry["step"] for entry in read_log(log_file)] == [1, 2]


def test_a_run_that_logs_nothing_comes_to_its_end(tiny, tmp_path):
    _, metrics = session(tiny, tmp_path / "run", logging_steps=50, max_steps=2)
    assert metrics["steps"] == 2
    assert "train_loss" not in metrics  # nothing was logged
    assert read_log(tmp_path / "run" / "log.jsonl") == []


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


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tiny, tmp_path, what):
    with pytest.raises(RunError, match=f"step 3: the {what} is .*learning_rate .* good checkpoint: .*point-2"):
        session(tiny, tmp_path / "run", Poison(what), save_steps=1)
    saved = load_file(tmp_path / "run" / "checkpoint-2" / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())
