"""What the GPU path promises, checked where there is no GPU: unsloth's compiled trainer, and every keyword we pass."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, script_environment, write_tiny_adapter

from response_generator import training
from response_generator.arguments import DPOArguments
from response_generator.validation import validated

# None of them is TRL's default, and none is unsloth's.
ASKED = {
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 3,
    "optim": "adamw_torch",
    "weight_decay": 0.02,
    "max_grad_norm": 0.7,
    "lr_scheduler_type": "cosine",
    "logging_steps": 1,
    "num_train_epochs": 2,
    "max_length": 256,
    "beta": 0.2,
    "eval_strategy": "epoch",
}


@pytest.fixture(scope="module")
def compiled(tiny, tmp_path_factory):
    """`(args, what the process on unsloth's GPU code reports)`, with a reference from another adapter."""
    folder = tmp_path_factory.mktemp("compiled")
    write_tiny_adapter(tiny.folder / "base", folder / "other", seed=5)
    values = tiny.dpo(folder / "whole", reference_adapter=str(folder / "other"), dpo=ASKED, seed=7)
    (folder / "args.json").write_text(json.dumps(values), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "compiled_trainer.py"), "args.json"],
        cwd=folder,
        env=script_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return values, json.loads(done.stdout.splitlines()[-1])


def test_the_trainer_under_ours_is_unsloths_compiled_one(compiled):
    assert compiled[1]["trainers"][:3] == ["PreferenceTrainer", "UnslothDPOTrainer", "_UnslothDPOTrainer"]


def test_every_argument_is_the_one_of_the_cpu_path(compiled):
    """The args' own, and TRL's defaults for the rest: unsloth's are batch 4 x 2, 5e-5, adamw_8bit, seed 3407."""
    values, report = compiled
    expected = training.training_config(validated(DPOArguments, values, "args.json")).to_dict()
    config = report["whole"]["config"]
    # Where files go; a field of TRL's tokenising, which we do not use; unsloth's own checkpointing; the CPU backend's
    # choice of AdamW kernel.
    may_differ = {"output_dir", "dataset_num_proc", "gradient_checkpointing_kwargs", "optim"}
    assert {name: config[name] for name in expected if name not in may_differ} == {
        name: str(value) for name, value in expected.items() if name not in may_differ
    }
    assert (config["learning_rate"], config["seed"], config["optim"]) == ("0.003", "7", "adamw_torch")


def test_policy_and_reference_are_the_named_adapters(compiled):
    report = compiled[1]["whole"]
    assert report["adapters"] == ["default", "ref"]
    assert report["trained"] and all(".default." in name for name in report["trained"])
    assert report["metrics"]["start_gap"] > 1  # another reference: checked against its file, bit by bit, in the process
    assert len(report["losses"]) == report["metrics"]["steps"] == 4
    assert report["dtypes"] == ["torch.float32"]  # after training and evaluating
    assert report["metrics"]["eval_loss"] > 0


def test_a_stopped_run_resumes_to_the_same_weights(compiled):
    report = compiled[1]
    assert "checkpoint-2 is saved; run the same command again" in report["stopped"]["interrupted"]
    assert report["resumed"]["losses"] == report["whole"]["losses"]
    assert report["resumed"]["weights"] == report["whole"]["weights"]
