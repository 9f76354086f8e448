"""Training in this process, as often as a test likes: whole, stopped by a signal, and resumed."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from tiny_models import EMOTION_LABELS, demo_rows
from transformers import TrainerCallback

from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import parse_pair
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.modeling import loading
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.tracking import Tracker
from response_generator.training import reference, run_training, trainer_config, trainer_setup
from response_generator.training.layout import batch_layout
from response_generator.training.monitoring import samples
from response_generator.training.monitoring.log_file import LogFile
from response_generator.training.monitoring.progress_bar import ProgressBar
from response_generator.training.training_method import DPO
from response_generator.training.trl_trainers import ResumableDPOTrainer

PAIRS = [parse_pair(number, row, EMOTION_LABELS) for number, row in enumerate(demo_rows("written_pairs_train", 12))]
BASIS = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 100}


NO_BAR = ProgressBar(len(PAIRS), DPO.unit, DPO.bar_metrics)  # one that is not given to the trainer prints lines alone


class At(TrainerCallback):
    """Does something once a step is taken."""

    def __init__(self, step: int, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def session(
    tiny,
    run: Path,
    *callbacks,
    owner: dict | None = None,
    dtype: str | None = None,
    sample_args: dict | None = None,
    adapter: str | None = None,
    **dpo,
):
    """One process's worth of fine_tune_dpo.py, up to the trained adapter: `(trainer, metrics)`."""
    values = tiny.dpo(run, sample_replies=sample_args, adapter=adapter or tiny.adapter)
    values["dpo"] |= BASIS | dpo
    values["from_pretrained"] |= {"dtype": dtype}
    arguments = validate_arguments(DPOArguments, values, "args.json")
    config = trainer_config.build_dpo_config(arguments)
    start = loading.resolve_initial_adapter(arguments)
    tokenizer = load_tokenizer(arguments, start)
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    tokens = tokenize_pairs(PAIRS, formatter, config.max_length)
    watchers = [LogFile(run / "log.jsonl", Tracker()), *trainer_config.build_early_stopping(arguments.dpo), *callbacks]
    policy = loading.load_policy(arguments, start)
    trainer = trainer_setup.build_trainer(
        ResumableDPOTrainer,
        policy,
        tokenizer,
        config,
        tokens,
        tokens,
        watchers,
        owner,
        arguments.dpo.get("save_total_limit"),
    )
    batch_layout.choose_layout(trainer, arguments.dpo)
    if dpo.get("precompute_ref_log_probs"):
        reference.precompute_ref_logps(trainer)
    run.mkdir(exist_ok=True)
    requests = samples.choose_prompts(PAIRS, formatter, arguments.sample_replies, context=512)
    sample_replies = samples.SampleReplies(
        trainer, requests, arguments.sample_replies, arguments.seed, run / "samples.jsonl", Tracker(), NO_BAR
    )
    trainer.add_callback(sample_replies)
    metrics = run_training.train(trainer)
    sample_replies.write_last(metrics.get("best_step", metrics["steps"]))
    return trainer, metrics


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
