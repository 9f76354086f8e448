"""Sample replies during training: they are the policy's own, the same at every start, and change nothing."""

import json

import pytest
import torch
from conftest import CHATML, read_lines
from tiny_models import EMOTION_LABELS, demo_rows
from training_sessions import NO_BAR, PAIRS, assert_same, log, session, stopped

from response_generator.config.schema import ChatTemplateArguments, EvaluateArguments
from response_generator.config.training_schema import SampleArguments
from response_generator.config.validation import validate_arguments
from response_generator.constants import ADAPTER
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import parse_dialogue, parse_pair
from response_generator.errors import InputError
from response_generator.generation import method
from response_generator.generation.generation_requests import (
    BatchLimit,
    SamplingParams,
    build_generation_config,
    decode_reply,
)
from response_generator.modeling import inference
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.training import run_training
from response_generator.training.monitoring import samples

ARGS = {"every_steps": 2, "prompts": 3, "max_new_tokens": 8}
SETTINGS = {
    "reference at every step": {},
    "gradient checkpoints, shared prompts": {"gradient_checkpointing": True, "shared_prefix": True},
    "precomputed reference, evaluations": {
        "precompute_ref_log_probs": True,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "train_sampling_strategy": "group_by_length",
    },
}


@pytest.mark.parametrize("case", SETTINGS)
def test_training_is_the_same_with_and_without_samples(case, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without, _ = session(tiny, tmp_path / "without", **SETTINGS[case])
    trainer, _ = session(tiny, tmp_path / "with", sample_args=ARGS, **SETTINGS[case])
    assert_same(trainer, without)
    assert log(tmp_path / "with") == log(tmp_path / "without")
    assert not (tmp_path / "without" / "samples.jsonl").exists()


def test_the_rows_name_steps_models_and_prompts(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    session(tiny, tmp_path / "run", sample_args=ARGS | {"every_steps": 4})
    rows = read_lines(tmp_path / "run" / "samples.jsonl")
    assert [(row["step"], row["model"]) for row in rows] == [
        *[(0, "policy")] * 3,
        *[(0, "reference")] * 3,
        *[(4, "policy")] * 3,
        *[(6, "policy")] * 3,  # the last step
    ]
    # Before the first step the policy is the reference, and gets the same random numbers.
    assert [row["response"] for row in rows[:3]] == [row["response"] for row in rows[3:6]]
    assert [row["response"] for row in rows[:3]] != [row["response"] for row in rows[9:]]
    indices = [row["index"] for row in rows[:3]]
    assert len(set(indices)) == 3 and [row["index"] for row in rows] == indices * 4
    for row in rows:
        pair = PAIRS[row["index"]]
        assert (row["prompt"], row["target_emotion"]) == (pair.prompt, pair.chosen["emotion"])
        assert row["hit_max_new_tokens"] == (row["new_tokens"] == 8)
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("writing sample replies …") == 3  # a line each time, as there is no bar
    printed = [line for line in lines if line.startswith(("step ", "sample prompt "))]
    assert [line.partition(":")[0] for line in printed[:4]] == [
        *(f"sample prompt {number}" for number in (1, 2, 3)),
        f"step 0, reply 1 ({rows[0]['target_emotion']})",
    ]
    assert len(printed) == 3 + 3 * 3 and all(len(line) < 80 for line in printed)


def test_a_prompt_is_shown_from_its_end_with_its_speakers(monkeypatch, capsys):
    turns = [
        {"role": "user", "content": {"emotion": "neutral", "dialog": "Is it  late ?"}},
        {"role": "assistant", "content": {"emotion": "anger", "dialog": "Yes !"}},
        {"role": "user", "content": "I am\nsorry ."},
    ]
    for columns, shown in (
        (76, "user: Is it late ? | assistant: Yes ! | user: I am sorry ."),  # the last column stays empty
        (75, "…er: Is it late ? | assistant: Yes ! | user: I am sorry ."),
        (56, "…assistant: Yes ! | user: I am sorry ."),
        (36, "…ser: I am sorry ."),
    ):
        monkeypatch.setenv("COLUMNS", str(columns))
        samples.show_prompt(1, turns)
        assert capsys.readouterr().err == f"sample prompt 1: {shown}\n"


def test_the_replies_are_those_of_an_evaluation_with_the_same_random_numbers(tiny, tmp_path):
    trainer, _ = session(tiny, tmp_path / "run", sample_args=ARGS)
    folder = tmp_path / "run" / "adapter"
    run_training.save_adapter(trainer.model, trainer.processing_class, folder)
    values = tiny.evaluate(tmp_path / "evaluation", adapter=str(folder), baseline_adapter=None)
    args = validate_arguments(EvaluateArguments, values, "args.json")
    model = inference.load_model(args, {ADAPTER: AdapterFile.read(folder)})
    formatter = ChatFormatter.of(trainer.processing_class, args.chat_template, EMOTION_LABELS)
    requests = samples.choose_prompts(PAIRS, formatter, SampleArguments(**ARGS), context=512)
    config = build_generation_config(samples.SETTINGS | {"max_new_tokens": 8}, formatter.tokenizer)
    with fast_cpu_inference(model), torch.autocast("cpu", torch.bfloat16, enabled=trainer.args.bf16):
        expected = method.generate(
            method.CONTINUOUS_BATCHING,
            model,
            requests,
            SamplingParams(config, seed=42, samples=1),
            BatchLimit(len(requests)),
            lambda _: None,
        )
    last = read_lines(tmp_path / "run" / "samples.jsonl")[-3:]
    assert [row["response"] for row in last] == [
        decode_reply(reply.samples[0], formatter.tokenizer) for reply in expected
    ]


def test_nothing_that_training_uses_is_changed(tiny, tmp_path):
    """Between two steps, the second of which begins with what is compared here."""
    states = []

    def note() -> None:
        model, tokenizer = trainer.model, trainer.processing_class
        states.append(
            {
                "modes": [module.training for module in model.modules()],
                "modules": [id(module) for module in model.modules()],
                "checkpoints": [getattr(module, "gradient_checkpointing", None) for module in model.modules()],
                "trainable": [weight.requires_grad for weight in model.parameters()],
                "adapter": model.active_adapter,
                "config": json.dumps(model.get_base_model().config.to_dict(), default=str, sort_keys=True),
                "generation": model.get_base_model().generation_config.to_json_string(),
                "padding": tokenizer.padding_side,
                "random": torch.get_rng_state().tolist(),
                "forward": model.get_base_model().forward,
            }
        )

    trainer, _ = session(tiny, tmp_path / "run", gradient_checkpointing=True, max_steps=1)
    arguments = SampleArguments(**ARGS)
    formatter = ChatFormatter.of(trainer.processing_class, ChatTemplateArguments(file=CHATML), EMOTION_LABELS)
    requests = samples.choose_prompts(PAIRS, formatter, arguments, context=512)
    file = tmp_path / "samples.jsonl"
    written = samples.SampleReplies(trainer, requests, arguments, 42, file, NoTracker(), NO_BAR)
    trainer.model.train()
    note()
    written.write(1, [samples.POLICY, samples.REFERENCE])
    note()
    assert states[0] == states[1]
    assert len(read_lines(tmp_path / "samples.jsonl")) == 6


class NoTracker:
    def log_table(self, *args):
        pass


def test_a_resumed_run_has_the_samples_of_an_uninterrupted_one(tiny, tmp_path):
    whole, _ = session(tiny, tmp_path / "whole", sample_args=ARGS)
    stopped(tiny, tmp_path / "run", 3, sample_args=ARGS)
    steps = [row["step"] for row in read_lines(tmp_path / "run" / "samples.jsonl")]
    assert max(steps) == 2  # not of the step at which it was stopped
    # As if it had been killed later: lines after the checkpoint, the last one cut off.
    with open(tmp_path / "run" / "samples.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 4, "model": "policy"}) + '\n{"step": 4')
    resumed, _ = session(tiny, tmp_path / "run", sample_args=ARGS)
    assert_same(resumed, whole)
    assert read_lines(tmp_path / "run" / "samples.jsonl") == read_lines(tmp_path / "whole" / "samples.jsonl")


def test_with_the_best_adapter_kept_the_last_samples_are_its_own(tiny, tmp_path):
    dpo = {
        "num_train_epochs": 4,
        "learning_rate": 3.0,  # far too high, so the first evaluation stays the best
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "early_stopping_patience": 2,
    }
    _, metrics = session(tiny, tmp_path / "run", sample_args=ARGS | {"every_steps": 100}, **dpo)
    steps = {row["step"] for row in read_lines(tmp_path / "run" / "samples.jsonl")}
    assert metrics["best_step"] < metrics["steps"]
    assert steps == {0, metrics["best_step"]}


def test_out_of_memory_ends_the_samples_and_not_the_run(tiny, tmp_path, monkeypatch, capsys):
    calls = []

    def run_out(*args):
        calls.append(True)
        if len(calls) > 2:  # policy and reference before the first step
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return write_replies(*args)

    write_replies = samples.write_replies
    monkeypatch.setattr(samples, "write_replies", run_out)
    trainer, metrics = session(tiny, tmp_path / "run", sample_args=ARGS)
    assert metrics["steps"] == 6 and trainer.model.active_adapter == "default"
    assert len(calls) == 3
    assert "samples: out of memory (CUDA out of memory. Tried to allocate 20.00 GiB)" in capsys.readouterr().err
    assert {row["step"] for row in read_lines(tmp_path / "run" / "samples.jsonl")} == {0}


def test_any_other_error_is_not_hidden(tiny, tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(samples, "write_replies", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        session(tiny, tmp_path / "run", sample_args=ARGS)


def test_prompts_differ_and_have_as_many_target_emotions_as_possible(tiny_formatter):
    pairs = [parse_pair(number, row, EMOTION_LABELS) for number, row in enumerate(demo_rows("written_pairs_train", 40))]
    chosen = samples.choose_prompts(
        [*pairs, *pairs], tiny_formatter, SampleArguments(every_steps=1, prompts=9), context=512
    )
    emotions = [request.dialogue.target_emotion for request in chosen]
    count = len({pair.chosen["emotion"] for pair in pairs})
    assert len(set(emotions[:count])) == count and len(chosen) == 9
    assert len({request.prompt for request in chosen}) == 9
    assert chosen[0].dialogue.index == 0
    assert all(not request.gold_ids for request in chosen)


def test_prompts_of_dialogues_and_of_text_are_rendered_as_in_training(tiny_formatter):
    (row,) = demo_rows("dialogues_test", 1)
    dialogue = parse_dialogue(0, row, EMOTION_LABELS)
    request = samples.build_request(dialogue, tiny_formatter)
    assert request.prompt == tiny_formatter.prompt(dialogue.history, dialogue.target_emotion)
    text = tiny_formatter.prompt(dialogue.history, "anger")
    pair = parse_pair(3, {"prompt": text, "chosen": "Fine .", "rejected": "No ."}, EMOTION_LABELS)
    request = samples.build_request(pair, tiny_formatter)
    assert (request.prompt, request.dialogue.target_emotion, request.dialogue.index) == (text, "anger", 3)
    assert request.prompt_ids == tiny_formatter.encode(text)


def test_prompts_without_room_for_a_reply_are_refused(tiny_formatter):
    with pytest.raises(InputError, match="no prompt of the first 200 rows leaves room .* which holds 20; lower it"):
        samples.choose_prompts(PAIRS, tiny_formatter, SampleArguments(every_steps=1), context=20)
