"""`python -m response_generator.sft`: what it writes and prints, and what it refuses."""

import json
import time

import pytest
from conftest import change_args, read_json, read_lines, write_rows
from PIL import Image
from script_runs import run_here, start_script
from tensorboard_events import read_scalars
from tiny_models import demo_rows

import fine_tune_dpo
from response_generator import sft

SCRIPT = "response_generator/sft.py"


def test_a_run_leaves_an_adapter_that_dpo_starts_from(tiny, tmp_path, capsys):
    values = tiny.sft(tmp_path / "run")
    assert run_here(sft.main, values, tmp_path, "--dry_run") == 0
    preview = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert "⟦" in preview and "<|im_end|>⟧" in preview
    assert "dialogues read 6, used 6, dropped 0, truncated 0" in preview
    assert "batch size 2, 3 steps per epoch, 6 steps in total" in preview

    assert run_here(sft.main, values, tmp_path) == 0
    out = capsys.readouterr().out
    assert f"done: the adapter is in {tmp_path / 'run' / 'adapter'}" in out
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["steps"] == 6
    assert {"initial_loss", "train_loss", "eval_loss", "dialogues_per_second", "peak_memory_gb"} <= metrics.keys()
    entries = [entry for entry in read_lines(tmp_path / "run" / "log.jsonl") if "loss" in entry]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert metrics["train_loss"] == pytest.approx(sum(entry["loss"] for entry in entries) / 6)
    assert Image.open(tmp_path / "run" / "training.png").size[0] > 800
    card = (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "trained with SFT" in card and "| dialogues | 6 of " in card
    assert read_json(tmp_path / "run" / "args.json")["replies"] == "all"

    assert run_here(sft.main, values, tmp_path) == 0
    out = capsys.readouterr().out
    assert "is finished" in out and "push_to_hub" not in out
    values["push_to_hub"] = {"repo_id": "me/sft", "private": True}  # as if it had been there from the start
    change_args(tmp_path / "run", push_to_hub=values["push_to_hub"])
    assert run_here(sft.main, values, tmp_path) == 0
    assert "was not uploaded; to upload it yourself: " in capsys.readouterr().out
    dpo = tiny.dpo(tmp_path / "dpo", adapter=str(tmp_path / "run" / "adapter"))
    assert run_here(fine_tune_dpo.main, dpo, tmp_path, "--set", "dpo.max_steps=1") == 0


def test_all_wrong_values_are_reported_at_once(tiny, tmp_path, capsys):
    values = tiny.sft(tmp_path / "run", replies="some", dataset={"path": str(tmp_path / "absent.jsonl")})
    values["sft"] |= {"learning_rat": 1e-4, "packing": True, "loss_type": "mse", "num_train_epochs": 0}
    values["lora"]["target_modules"] = ["lm_head"]
    assert run_here(sft.main, values, tmp_path) == 2
    err = capsys.readouterr().err
    for message in (
        "replies: got 'some' (string); allowed: 'all' or 'last'",
        'sft.learning_rat: unknown key; did you mean "learning_rate"?',
        "sft.packing: each dialogue is a row of its own; remove the key",
        "sft.loss_type: got 'mse'; allowed: nll, dft",
        "sft.num_train_epochs: got 0 (integer); allowed: more than 0",
        "lora: target_modules and trainable_token_indices may not adapt lm_head",
    ):
        assert message in err, err
    assert not (tmp_path / "run").exists()


def test_an_args_file_of_another_program_is_named(tiny, tmp_path, capsys):
    assert run_here(sft.main, tiny.dpo(tmp_path / "run"), tmp_path) == 2
    assert "dpo: is a section of fine_tune_dpo.py" in capsys.readouterr().err
    assert run_here(fine_tune_dpo.main, tiny.sft(tmp_path / "run"), tmp_path) == 2
    assert "sft: is a section of python -m response_generator.sft" in capsys.readouterr().err


def test_missing_and_empty_data_are_named(tiny, tmp_path, capsys):
    assert (
        run_here(sft.main, tiny.sft(tmp_path / "run", dataset={"path": str(tmp_path / "absent.jsonl")}), tmp_path) == 2
    )
    assert "absent.jsonl" in capsys.readouterr().err
    empty = write_rows(tmp_path / "empty.jsonl", [])
    assert run_here(sft.main, tiny.sft(tmp_path / "run", dataset={"path": empty}), tmp_path) == 2
    assert "holds no rows" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_killed_run_continues_from_its_last_checkpoint(tiny, tmp_path):
    rows = write_rows(tmp_path / "dialogues.jsonl", demo_rows("dialogues_train", 16))
    samples = {"every_steps": 4, "prompts": 2, "max_new_tokens": 6}
    values = tiny.sft(tmp_path / "run", dataset={"path": rows}, eval_dataset=None, tensorboard=True)
    values["sample_replies"] = samples
    values["sft"] |= {"save_steps": 2}
    process = start_script(SCRIPT, values, tmp_path)
    while not (tmp_path / "run" / "checkpoint-2" / "run.json").exists():
        assert process.process.is_alive(), process.read_stderr()
        process.process.join(0.05)
    process.process.kill()
    process.wait()
    assert not (tmp_path / "run" / "metrics.json").exists()
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    while f"tfevents.{int(time.time())}." in events.name:  # TensorBoard reads the files in the order of these seconds
        pass
    assert run_here(sft.main, values, tmp_path) == 0
    assert read_json(tmp_path / "run" / "metrics.json")["steps"] == 16
    whole = values | {"output_dir": str(tmp_path / "whole")}
    assert run_here(sft.main, json.loads(json.dumps(whole)), tmp_path) == 0
    files = [tmp_path / name / "adapter" / "adapter_model.safetensors" for name in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read_lines(tmp_path / "run" / "samples.jsonl") == read_lines(tmp_path / "whole" / "samples.jsonl")
    for name in ("run", "whole"):
        expected = [
            (entry["step"], pytest.approx(entry["loss"])) for entry in read_lines(tmp_path / name / "log.jsonl")
        ]
        assert len(expected) == 16 and read_scalars(tmp_path / name, "loss") == expected
