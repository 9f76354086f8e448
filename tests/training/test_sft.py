"""SFT on tiny models, in this process: the loss, resumption, and new tokens."""

import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import read_json, read_lines
from script_runs import run_here
from tiny_models import EMOTION_LABELS, demo_rows
from training_sessions import NO_BAR, At, assert_same, log
from transformers import AutoModelForCausalLM, AutoTokenizer

from response_generator import sft
from response_generator.config.training_schema import SampleArguments, SFTArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.datasets import parse_dialogue
from response_generator.data.dialogue_tokenization import IGNORED_LABEL
from response_generator.errors import RunError
from response_generator.modeling import loading
from response_generator.runs.tracking import Tracker
from response_generator.training import run_training, sft_checks, trainer_setup
from response_generator.training.monitoring.log_file import LogFile
from response_generator.training.monitoring.samples import SampleReplies
from response_generator.training.preparation import prepare_sft
from response_generator.training.trl_trainers import ResumableSFTTrainer

DIALOGUES = [parse_dialogue(number, row, EMOTION_LABELS) for number, row in enumerate(demo_rows("dialogues_train", 6))]


def build(tiny, run: Path, *callbacks, **changes):
    """The trainer of a run, and what was prepared for it."""
    values = tiny.sft(run)
    values["sft"] |= changes.pop("sft", {})
    args = validate_arguments(SFTArguments, values | changes, "args.json")
    prepared = prepare_sft(args, DIALOGUES, DIALOGUES[:2])
    policy = loading.load_policy(args, prepared.start, vocabulary_size=len(prepared.tokenizer))
    watchers = [LogFile(run / "log.jsonl", Tracker()), *callbacks]
    run.mkdir(exist_ok=True)
    trainer = trainer_setup.build_trainer(
        ResumableSFTTrainer, policy, prepared.tokenizer, prepared.config, prepared.train, prepared.held_out, watchers
    )
    return trainer, prepared


def train(trainer) -> dict[str, float]:
    return run_training.train(trainer, "dialogues")


def test_the_loss_is_the_mean_negative_log_probability_of_the_replies(tiny, tmp_path):
    trainer, prepared = build(tiny, tmp_path / "run", sft={"bf16": False}, **in_fp32(tiny))
    base = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)  # a new LoRA adds nothing to it
    total, count = 0.0, 0
    for row in prepared.train.rows[:2]:
        with torch.no_grad():
            logits = base(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        labels = torch.tensor(row["labels"])
        total += torch.nn.functional.cross_entropy(
            logits[:-1], labels[1:], ignore_index=IGNORED_LABEL, reduction="sum"
        ).item()
        count += (labels[1:] != IGNORED_LABEL).sum().item()
    assert sft_checks.check_start(trainer)["initial_loss"] == pytest.approx(total / count, abs=1e-3)
    # The loss is on fewer tokens than the labels of all tokens would give.
    assert count < sum(len(row["input_ids"]) - 1 for row in prepared.train.rows[:2])


def in_fp32(tiny) -> dict:
    return {"from_pretrained": {**tiny.sft(Path())["from_pretrained"], "load_in_4bit": False, "dtype": "float32"}}


def test_labels_on_other_tokens_stop_the_run(tiny, tmp_path):
    trainer, _ = build(tiny, tmp_path / "run", **in_fp32(tiny))
    collate = trainer.data_collator

    def collate_without_mask(rows):
        return collate([row | {"labels": row["input_ids"]} for row in rows])

    trainer.data_collator = collate_without_mask
    with pytest.raises(RunError, match="before the first step TRL computes a loss of"):
        sft_checks.check_start(trainer)


CASES = {
    "in the first epoch": (2, {}),
    "between two log lines": (2, {"logging_steps": 3}),
    "at an epoch's end": (3, {"save_strategy": "epoch", "eval_strategy": "epoch", "logging_strategy": "epoch"}),
    "grouped by length, second epoch": (4, {"train_sampling_strategy": "group_by_length", "logging_steps": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_an_uninterrupted_one(case, tiny, tmp_path):
    step, settings = CASES[case]
    whole, _ = build(tiny, tmp_path / "whole", sft=settings)
    expected = train(whole)
    stop = At(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt, match=f"checkpoint-{step} is saved"):
        train(build(tiny, tmp_path / "run", stop, sft=settings)[0])
    torch.rand(7)  # a new process does not have the generator's state either
    resumed, _ = build(tiny, tmp_path / "run", sft=settings)
    metrics = train(resumed)
    assert_same(resumed, whole)
    assert log(tmp_path / "run") == log(tmp_path / "whole")
    same = ("train_loss", "steps", "epoch", "eval_loss", "eval_mean_token_accuracy")
    assert {key: metrics[key] for key in same} == {key: expected[key] for key in same}
    assert expected["eval_loss"] < expected["train_loss"] - 0.2  # it learns


def test_training_is_the_same_with_sample_replies(tiny, tmp_path):
    """With embeddings that are trained too, in another data type than the base."""
    values = tiny.sft(tmp_path)
    changes = {
        "lora": values["lora"] | {"modules_to_save": ["embed_tokens", "lm_head"]},
        "chat_template": values["chat_template"]
        | {"special_tokens": {"additional_special_tokens": ["<mood>", "</mood>"]}},
    }
    settings = {"every_steps": 2, "prompts": 3, "max_new_tokens": 6}
    trainers = []
    for name, sample_args in (("without", None), ("with", settings)):
        trainer, prepared = build(tiny, tmp_path / name, sample_replies=sample_args, **changes)
        file = tmp_path / name / "samples.jsonl"
        arguments = SampleArguments(**settings)
        trainer.add_callback(SampleReplies(trainer, prepared.sample_requests, arguments, 42, file, Tracker(), NO_BAR))
        train(trainer)
        trainers.append(trainer)
    assert_same(*trainers)
    assert log(tmp_path / "with") == log(tmp_path / "without")
    rows = [(row["step"], row["model"]) for row in read_lines(tmp_path / "with" / "samples.jsonl")]
    assert rows == [(step, "policy") for step in (0, 2, 4, 6) for _ in range(2)]  # two held-out dialogues


def test_new_tokens_are_trained_with_the_embeddings(tiny, tmp_path):
    """As the published adapter was made: a vocabulary with more tokens, whose embeddings are saved in the adapter."""
    values = tiny.sft(tmp_path / "run")
    values["lora"] |= {"modules_to_save": ["embed_tokens", "lm_head"]}
    values["chat_template"]["special_tokens"] = {"additional_special_tokens": ["<mood>", "</mood>"]}
    values["sft"] |= {"max_steps": 2}
    assert run_here(sft.main, values, tmp_path) == 0
    adapter = tmp_path / "run" / "adapter"
    old, new = (len(AutoTokenizer.from_pretrained(folder)) for folder in (tiny.base, adapter))
    assert new == old + 2
    evaluation = tiny.evaluate(tmp_path / "evaluation", adapter=str(adapter), chat_template=values["chat_template"])
    args = validate_arguments(SFTArguments, {**values, "adapter": str(adapter), "lora": None}, "args.json")
    assert loading.find_adapter("adapter", evaluation["adapter"], args).embedding_rows == new
    without = values | {"lora": tiny.sft(tmp_path)["lora"], "output_dir": str(tmp_path / "other")}
    assert run_here(sft.main, without, tmp_path) == 2


def test_training_goes_on_from_an_adapter(tiny, tmp_path):
    first = tiny.sft(tmp_path / "first")
    assert run_here(sft.main, first, tmp_path) == 0
    again = first | {
        "adapter": str(tmp_path / "first" / "adapter"),
        "lora": None,
        "output_dir": str(tmp_path / "again"),
    }
    assert run_here(sft.main, again, tmp_path) == 0
    losses = [read_json(tmp_path / name / "metrics.json")["initial_loss"] for name in ("first", "again")]
    assert losses[1] < losses[0] - 0.2
